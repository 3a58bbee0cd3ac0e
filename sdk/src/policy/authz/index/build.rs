//! Filing: which keys a rule is found by.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use http::HeaderName;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::key::{Attribute, Key, choices};
use super::node::{Bucket, ClaimPath, HeaderShelf, Node, OpenShelf};
use crate::policy::authz::rule::{AuthzRule, Condition};

/// How many rules under one key are simply asked. Fewer in tests, so that small random tables become deep trees.
const FEW: usize = if cfg!(test) { 1 } else { 8 };
/// How often a rule may be filed, on average, when a crowded bucket is divided.
const COPIES: usize = 8;

type KeyId = u32;
/// The keys of a [`super::key::Choice`].
type Choice = SmallVec<[KeyId; 2]>;
/// All choices of one condition.
type Demand = SmallVec<[Choice; 1]>;
/// The demands of each of a clause's alternatives.
type Demands = Vec<Vec<Demand>>;

/// The work of building a table's tree.
#[derive(Default)]
pub(super) struct Filing {
    keys: Vec<Rc<Key>>,
    /// Of each rule, by position: those of its clauses that demand something.
    rules: Vec<Vec<Demands>>,
    /// How many rules share each key, in the node at hand.
    crowds: Vec<u32>,
    closes: bool,
}

/// A rule on its way to its place.
#[derive(Clone)]
struct Draft {
    position: u32,
    /// The keys that its place so far stands for; sorted.
    used: Rc<[KeyId]>,
}

/// Keys of which a request has at least one if the rule matches, and what asking for them costs.
#[derive(Default)]
struct Cover {
    keys: Vec<KeyId>,
    cost: Cost,
}

/// Compared from the first field to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Whether a condition must be asked, and how seldom it is shared.
    asked: Option<Reverse<u32>>,
    /// How many rules share the key that most share.
    crowd: u32,
    keys: usize,
    rank: u8,
}

/// The shelves of a node while they are being filled.
#[derive(Default)]
struct Open {
    asked: Vec<(Condition, Bucket)>,
    texts: HashMap<Attribute, OpenShelf>,
    blocks: HashMap<Attribute, Vec<(IpNet, Bucket)>>,
    headers: HashMap<HeaderName, (OpenShelf, Vec<Draft>)>,
    claims: HashMap<ClaimPath, OpenShelf>,
}

impl Filing {
    /// The tree for rules in their order; `closes` as in [`super::Table::new`].
    pub(super) fn tree<'r>(rules: impl Iterator<Item = &'r AuthzRule>, closes: bool) -> Node {
        let mut filing = Self {
            closes,
            ..Self::default()
        };
        let mut ids = HashMap::new();
        for rule in rules {
            let demands = filing.demands(rule, &mut ids);
            filing.rules.push(demands);
        }
        filing.crowds = vec![0; filing.keys.len()];
        let drafts = (0..filing.rules.len()).map(|position| Draft {
            position: u32::try_from(position).unwrap_or(u32::MAX),
            used: Rc::default(),
        });
        filing.node(drafts.collect(), usize::MAX).unwrap_or_default()
    }

    fn demands(&mut self, rule: &AuthzRule, ids: &mut HashMap<Rc<Key>, KeyId>) -> Vec<Demands> {
        let mut demand = |condition: &Condition| -> Demand {
            let choices = choices(condition).into_iter();
            let mut id = |key| self.id(key, ids);
            choices
                .map(|choice| choice.into_iter().map(&mut id).collect())
                .collect()
        };
        let clauses = rule.clauses.iter();
        // An alternative without conditions holds of every request.
        let demanding = clauses.filter(|clause| clause.any.iter().all(|all| !all.is_empty()));
        demanding
            .map(|clause| {
                let alternatives = clause.any.iter();
                alternatives
                    .map(|all| all.iter().map(&mut demand).collect())
                    .collect()
            })
            .collect()
    }

    fn id(&mut self, key: Key, ids: &mut HashMap<Rc<Key>, KeyId>) -> KeyId {
        if let Some(id) = ids.get(&key) {
            return *id;
        }
        let (id, key) = (
            KeyId::try_from(self.keys.len()).unwrap_or(KeyId::MAX),
            Rc::new(key),
        );
        self.keys.push(Rc::clone(&key));
        ids.insert(key, id);
        id
    }

    fn demands_of(&self, draft: &Draft) -> &[Demands] {
        self.rules
            .get(draft.position as usize)
            .map_or(&[], |demands| demands)
    }

    /// The keys that a rule can still be filed under.
    fn fresh_keys(&self, draft: &Draft) -> impl Iterator<Item = KeyId> {
        let choices = self.demands_of(draft).iter().flatten().flatten().flatten();
        choices.flatten().copied().filter(|key| !draft.has_used(*key))
    }

    /// Files rules; `None` if that takes more than `limit` copies of them.
    fn node(&mut self, drafts: Vec<Draft>, limit: usize) -> Option<Node> {
        self.count(&drafts);
        let covers: Vec<_> = drafts.iter().map(|draft| self.cheapest(draft)).collect();
        self.forget(&drafts);
        if covers
            .iter()
            .flatten()
            .map(|cover| cover.keys.len())
            .sum::<usize>()
            > limit
        {
            return None;
        }
        let mut loose = Vec::new();
        let mut filed: BTreeMap<KeyId, Vec<Draft>> = BTreeMap::new();
        for (draft, cover) in drafts.into_iter().zip(covers) {
            let Some(cover) = cover else {
                loose.push(draft.position);
                continue;
            };
            let mut used: Vec<_> = draft.used.iter().chain(&cover.keys).copied().collect();
            used.sort_unstable();
            let next = Draft {
                position: draft.position,
                used: used.into(),
            };
            for key in cover.keys {
                filed.entry(key).or_default().push(next.clone());
            }
        }
        let mut open = Open::default();
        for (key, drafts) in filed {
            self.file(&mut open, key, drafts);
        }
        Some(self.close(open, loose))
    }

    fn count(&mut self, drafts: &[Draft]) {
        let mut crowds = std::mem::take(&mut self.crowds);
        for key in drafts.iter().flat_map(|draft| self.fresh_keys(draft)) {
            crowds[key as usize] += 1;
        }
        self.crowds = crowds;
    }

    fn forget(&mut self, drafts: &[Draft]) {
        let mut crowds = std::mem::take(&mut self.crowds);
        for key in drafts.iter().flat_map(|draft| self.fresh_keys(draft)) {
            crowds[key as usize] = 0;
        }
        self.crowds = crowds;
    }

    fn cheapest(&self, draft: &Draft) -> Option<Cover> {
        let of_clause = |alternatives: &Demands| {
            let mut cover = Cover::default();
            for demands in alternatives {
                let covers = demands.iter().filter_map(|demand| self.cover(demand, draft));
                let best = covers.min_by_key(|cover| cover.cost)?;
                cover.keys.extend(best.keys);
                cover.cost = cover.cost.and(best.cost);
            }
            Some(cover.settled())
        };
        let covers = self.demands_of(draft).iter().filter_map(of_clause);
        covers.min_by_key(|cover| cover.cost)
    }

    /// The cheapest key of each choice of a condition.
    fn cover(&self, demand: &Demand, draft: &Draft) -> Option<Cover> {
        let mut cover = Cover::default();
        for choice in demand {
            let fresh = choice.iter().filter(|key| !draft.has_used(**key));
            let (cost, key) = fresh.filter_map(|key| Some((self.cost(*key)?, *key))).min()?;
            cover.keys.push(key);
            cover.cost = cover.cost.and(cost);
        }
        Some(cover.settled())
    }

    fn cost(&self, key: KeyId) -> Option<Cost> {
        let crowd = self.crowds.get(key as usize).copied()?;
        let key = self.keys.get(key as usize)?;
        let asked = match **key {
            // Asking for few rules is no better than asking the rules.
            Key::Asked(_) if crowd as usize <= FEW => return None,
            Key::Asked(_) => Some(Reverse(crowd)),
            _ => None,
        };
        Some(Cost {
            asked,
            crowd: if asked.is_some() { 0 } else { crowd },
            keys: 1,
            rank: key.rank(),
        })
    }

    fn file(&mut self, open: &mut Open, key: KeyId, drafts: Vec<Draft>) {
        let Some(key) = self.keys.get(key as usize).cloned() else {
            return;
        };
        match &*key {
            Key::Asked(condition) => open.asked.push(((**condition).clone(), self.bucket(drafts))),
            Key::Block(attribute, block) => {
                let bucket = self.bucket(drafts);
                open.blocks
                    .entry(attribute.clone())
                    .or_default()
                    .push((*block, bucket));
            }
            Key::Text(attribute, form, text) => {
                let shelf = match attribute {
                    Attribute::Claim(path) => open.claims.entry(path.clone()).or_default(),
                    Attribute::Header(name) => {
                        let (shelf, unclear) = open.headers.entry(name.clone()).or_default();
                        if self.closes {
                            unclear.extend(drafts.iter().cloned());
                        }
                        shelf
                    }
                    other => open.texts.entry(other.clone()).or_default(),
                };
                shelf.put(*form, text.clone(), self.bucket(drafts));
            }
        }
    }

    fn close(&mut self, open: Open, loose: Vec<u32>) -> Node {
        let mut node = Node {
            loose: loose.into(),
            asked: open.asked,
            ..Node::default()
        };
        let texts = open.texts.into_iter();
        node.texts = texts
            .map(|(attribute, shelf)| (attribute, shelf.close()))
            .collect();
        let blocks = open.blocks.into_iter();
        node.blocks = blocks
            .map(|(attribute, blocks)| (attribute, blocks.into_iter().collect()))
            .collect();
        for (path, shelf) in open.claims {
            let name = path.first().cloned().unwrap_or_default();
            node.claims.entry(name).or_default().push((path, shelf.close()));
        }
        for (name, (shelf, mut unclear)) in open.headers {
            unclear.sort_by_key(|draft| draft.position);
            unclear.dedup_by_key(|draft| draft.position);
            let shelf = HeaderShelf {
                shelf: shelf.close(),
                unclear: self.bucket(unclear),
            };
            node.headers.insert(name, shelf);
        }
        node
    }

    /// Rules under one key: divided further if they are many and it helps.
    fn bucket(&mut self, drafts: Vec<Draft>) -> Bucket {
        let few = |drafts: &[Draft]| Bucket::Few(drafts.iter().map(|draft| draft.position).collect());
        let limit = drafts.len().saturating_mul(COPIES);
        // Long lists of values would be gone through again under each of them.
        let many_keys = |drafts: &[Draft]| {
            let keys = drafts.iter().flat_map(|draft| self.fresh_keys(draft));
            keys.take(limit.saturating_mul(COPIES) + 1).count() > limit.saturating_mul(COPIES)
        };
        if drafts.len() <= FEW || many_keys(&drafts) {
            return few(&drafts);
        }
        let flat = few(&drafts);
        match self.node(drafts, limit) {
            Some(node) if !node.is_flat() => Bucket::Many(Box::new(node)),
            _ => flat,
        }
    }
}

impl Draft {
    fn has_used(&self, key: KeyId) -> bool {
        self.used.binary_search(&key).is_ok()
    }
}

impl Cover {
    fn settled(mut self) -> Self {
        self.keys.sort_unstable();
        self.keys.dedup();
        self.cost.keys = self.keys.len();
        self
    }
}

impl Cost {
    /// What both together cost: as the worse of the two in each respect, but for the number of keys.
    fn and(self, other: Self) -> Self {
        Self {
            asked: self.asked.max(other.asked),
            crowd: self.crowd.max(other.crowd),
            keys: self.keys + other.keys,
            rank: self.rank.max(other.rank),
        }
    }
}
