//! An authorizer that is asked by gRPC.

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::answer::{Answer, Changes, How, few};
use super::message::{AppendAction, CheckRequest, CheckResponse, HeaderValueOption, HttpAnswer};
use super::status_of;
use crate::layer::Asker;
use crate::layer::unary::{self, Target};
use crate::snapshot::Authorizer;

/// Asks; what is not an answer is an error.
pub(super) async fn check(
    message: CheckRequest,
    authorizer: &Authorizer,
    asker: &Asker,
) -> Result<Answer, String> {
    let target = Target {
        host: &authorizer.host,
        port: authorizer.port,
        path: "/envoy.service.auth.v3.Authorization/Check",
        timeout: authorizer.timeout,
    };
    answer(unary::call(target, &message, asker).await?)
}

/// What a CheckResponse says (Envoy `grpc_client_impl`).
fn answer(response: CheckResponse) -> Result<Answer, String> {
    let allowed = response.status.as_ref().is_none_or(|status| status.code == 0);
    match (allowed, response.http_response) {
        (true, None) => Ok(Answer::Allowed(Changes::default())),
        (true, Some(HttpAnswer::Ok(ok))) => {
            few(ok.headers.len() + ok.response_headers_to_add.len())?;
            let names = |names: Vec<String>| names.iter().filter_map(|name| name.parse().ok()).collect();
            let mut changes = Changes {
                headers: ok.headers.into_iter().filter_map(header).collect(),
                removed: names(ok.headers_to_remove),
                query_removed: ok.query_parameters_to_remove,
                query_set: ok
                    .query_parameters_to_set
                    .into_iter()
                    .map(|one| (one.key, one.value))
                    .collect(),
                response: HeaderMap::new(),
            };
            for (name, value, _) in ok.response_headers_to_add.into_iter().filter_map(header) {
                changes.response.append(name, value);
            }
            Ok(Answer::Allowed(changes))
        }
        (true, Some(HttpAnswer::Denied(_))) => Err("the answer allows and denies at once".into()),
        (false, Some(HttpAnswer::Denied(denied))) => {
            few(denied.headers.len())?;
            let mut headers = HeaderMap::new();
            for (name, value, how) in denied.headers.into_iter().filter_map(header) {
                match how {
                    How::Add | How::AddToPresent => drop(headers.append(name, value)),
                    _ => drop(headers.insert(name, value)),
                }
            }
            Ok(Answer::Denied {
                status: denied
                    .status
                    .map_or(StatusCode::FORBIDDEN, |status| status_of(status.code)),
                headers,
                body: denied.body,
            })
        }
        (false, _) => Ok(Answer::Denied {
            status: StatusCode::FORBIDDEN,
            headers: HeaderMap::new(),
            body: String::new(),
        }),
    }
}

/// A header, if it is one that may be written.
fn header(option: HeaderValueOption) -> Option<(HeaderName, HeaderValue, How)> {
    let how = match (AppendAction::try_from(option.append_action), option.append) {
        (Ok(AppendAction::AddIfAbsent), _) => How::IfAbsent,
        (Ok(AppendAction::OverwriteIfExistsOrAdd), _) => How::Set,
        (Ok(AppendAction::OverwriteIfExists), _) => How::IfPresent,
        // The older field, which says more where the newer is at its default.
        (_, Some(append)) if append.value => How::AddToPresent,
        _ => How::Set,
    };
    let header = option.header?;
    let value = match header.raw_value.is_empty() {
        true => HeaderValue::from_str(&header.value).ok()?,
        false => HeaderValue::from_maybe_shared(header.raw_value).ok()?,
    };
    let name: HeaderName = header.key.parse().ok()?;
    super::answer::may_change(&name).then_some((name, value, how))
}
