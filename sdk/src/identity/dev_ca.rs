//! A certificate authority for demos and tests. It signs for anybody who can read its folder: not for production.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::file::{CHAIN, KEY, ROOTS};
use super::{Credential, Error};
use crate::name::SpiffeId;

/// How long a development root lasts.
const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far certificates are dated back, for peers whose clock is a little behind.
const BACKDATE: Duration = Duration::from_secs(60);

/// A mesh root that issues workload certificates.
///
/// Several processes may share one folder: whoever comes first makes the root, the others find it.
pub struct DevCa {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A credential in PEM: what [`Credential::from_pem`] reads.
#[derive(Clone)]
pub struct Pems {
    /// The certificate chain, leaf first.
    pub chain: String,
    /// The private key.
    pub key: String,
    /// The roots to trust.
    pub roots: String,
}

/// What a certificate shall say: [`DevCa::issue_leaf`] signs anything, so that tests can present what peers must refuse.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leaf {
    /// The URI names.
    pub uris: Vec<String>,
    /// The DNS names.
    pub dns: Vec<String>,
    /// When its time begins.
    pub not_before: SystemTime,
    /// When its time is over.
    pub not_after: SystemTime,
}

impl Leaf {
    /// A sound certificate for one identity, from a minute ago until `ttl` from now.
    pub fn of(id: &SpiffeId, ttl: Duration) -> Self {
        let now = SystemTime::now();
        Self {
            uris: vec![id.as_str().to_owned()],
            dns: Vec::new(),
            not_before: now - BACKDATE,
            not_after: now + ttl,
        }
    }
}

impl Pems {
    /// Reads the credential.
    ///
    /// # Errors
    /// As [`Credential::from_pem`].
    pub fn credential(&self) -> Result<Credential, Error> {
        Credential::from_pem(self.chain.as_bytes(), self.key.as_bytes(), self.roots.as_bytes())
    }
}

impl std::fmt::Debug for Pems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pems").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DevCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevCa").finish_non_exhaustive()
    }
}

impl DevCa {
    /// A root that lives only as long as this value.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new_in_memory() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(issue)?;
        let root = root_params(SystemTime::now()).self_signed(&key).map_err(issue)?;
        Ok(Self::from_parts(root.pem(), key))
    }

    /// The root kept in `dir` as `root.pem` and `root.key`, made now if there is none.
    ///
    /// Blocks on the file system; a lock file keeps processes that start together from making two.
    ///
    /// # Errors
    /// If the folder cannot be written or what lies in it is not a root.
    pub fn open_or_create(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        let (root, key, lock) = (dir.join("root.pem"), dir.join("root.key"), dir.join(".lock"));
        let held = File::create(&lock).map_err(|e| Error::file(&lock, e))?;
        held.lock().map_err(|e| Error::file(&lock, e))?; // released when `held` is closed
        if !(root.exists() && key.exists()) {
            let made = Self::new_in_memory()?;
            replace(&key, made.issuer.key().serialize_pem().as_bytes())?;
            replace(&root, made.root_pem.as_bytes())?;
            return Ok(made);
        }
        let root_pem = fs::read_to_string(&root).map_err(|e| Error::file(&root, e))?;
        let key_pem = fs::read_to_string(&key).map_err(|e| Error::file(&key, e))?;
        let key = KeyPair::from_pem(&key_pem).map_err(issue)?;
        Ok(Self::from_parts(root_pem, key))
    }

    fn from_parts(root_pem: String, key: KeyPair) -> Self {
        // An issuer is its name and its key; both are the same for every root made here but for the key.
        let issuer = Issuer::new(root_params(SystemTime::UNIX_EPOCH), key);
        Self { root_pem, issuer }
    }

    /// The root certificate in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Issues a credential for one identity.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue(&self, id: &SpiffeId, ttl: Duration) -> Result<Pems, Error> {
        self.issue_leaf(&Leaf::of(id, ttl))
    }

    /// Issues whatever is asked for.
    ///
    /// # Errors
    /// If a name cannot be encoded or signing fails.
    pub fn issue_leaf(&self, leaf: &Leaf) -> Result<Pems, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = leaf.not_before.into();
        params.not_after = leaf.not_after.into();
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        for uri in &leaf.uris {
            let uri = uri.as_str().try_into().map_err(issue)?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        for name in &leaf.dns {
            let name = name.as_str().try_into().map_err(issue)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let key = KeyPair::generate().map_err(issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        Ok(Pems {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            roots: self.root_pem.clone(),
        })
    }

    /// Issues a credential and writes it to `dir` under Istio's file names, for [`super::pem_dir`] to read.
    ///
    /// Each file is replaced in one step, so a reader sees an old or a new file and never half of one; that a reader
    /// may see files of two generations for a moment is the reader's to bear, as with any writer of three files.
    ///
    /// # Errors
    /// If signing or writing fails.
    pub fn write_workload(&self, dir: impl AsRef<Path>, id: &SpiffeId, ttl: Duration) -> Result<(), Error> {
        let dir = dir.as_ref();
        let pems = self.issue(id, ttl)?;
        fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        replace(&dir.join(ROOTS), pems.roots.as_bytes())?;
        replace(&dir.join(KEY), pems.key.as_bytes())?;
        replace(&dir.join(CHAIN), pems.chain.as_bytes())
    }
}

fn root_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "inmesh");
    params
        .distinguished_name
        .push(DnType::CommonName, "inmesh development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now.checked_sub(BACKDATE).unwrap_or(now).into();
    params.not_after = (now + ROOT_TTL).into();
    params
}

/// Puts a file in place in one step, readable by its owner alone.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{number}.tmp", std::process::id()));
    let fresh: PathBuf = path.with_file_name(name);
    let written = write_private(&fresh, content).and_then(|()| fs::rename(&fresh, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&fresh);
        Error::file(path, e)
    })
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)
}

fn issue(error: rcgen::Error) -> Error {
    Error::Issue(error.to_string())
}
