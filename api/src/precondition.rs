//! `If-Match` and `If-None-Match` (RFC 9110 section 13), and the ETags that they compare.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use store::Precondition;

use crate::problem::Problem;

/// The ETag of a generation: strong, in quotes.
pub(crate) fn etag(generation: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{generation}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The conditional headers of a request.
#[derive(Debug)]
pub(crate) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The content of one conditional header.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    /// Generations; tags that no generation of ours can have match nothing and are left out.
    Generations(Vec<u64>),
    Malformed(String),
}

impl Conditions {
    /// What must hold before a resource is written.
    pub(crate) fn for_write(&self, required: bool) -> Result<Precondition, Problem> {
        match (&self.if_match, &self.if_none_match) {
            (Some(Tags::Malformed(why)), _) | (_, Some(Tags::Malformed(why))) => {
                Err(Problem::bad_request(why.clone()))
            }
            (Some(_), Some(_)) => Err(Problem::bad_request("If-Match and If-None-Match exclude each other")),
            (Some(Tags::Any), None) => Ok(Precondition::Present),
            (Some(Tags::Generations(generations)), None) => Ok(Precondition::Generation(generations.clone())),
            (None, Some(Tags::Any)) => Ok(Precondition::Absent),
            (None, Some(Tags::Generations(_))) => {
                Err(Problem::bad_request("a write understands If-None-Match: * alone"))
            }
            (None, None) if required => Err(Problem::precondition_required(
                "this server wants If-Match with the ETag that you read, or If-None-Match: * to create",
            )),
            (None, None) => Ok(Precondition::None),
        }
    }

    /// Whether the reader has this generation already: 304.
    pub(crate) fn unmodified(&self, generation: u64) -> Result<bool, Problem> {
        match &self.if_none_match {
            Some(Tags::Any) => Ok(true),
            Some(Tags::Generations(generations)) => Ok(generations.contains(&generation)),
            Some(Tags::Malformed(why)) => Err(Problem::bad_request(why.clone())),
            None => Ok(false),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            if_match: tags(&parts.headers, &header::IF_MATCH, false),
            if_none_match: tags(&parts.headers, &header::IF_NONE_MATCH, true),
        })
    }
}

/// `weak_allowed`: If-None-Match compares weakly, If-Match strongly (RFC 9110 section 8.8.3.2).
fn tags(headers: &HeaderMap, name: &HeaderName, weak_allowed: bool) -> Option<Tags> {
    if !headers.contains_key(name) {
        return None;
    }
    let mut generations = Vec::new();
    for value in headers.get_all(name) {
        let Ok(text) = value.to_str() else { return Some(Tags::Malformed(format!("{name} is not text"))) };
        if text.trim() == "*" {
            return Some(Tags::Any);
        }
        for tag in text.split(',').map(str::trim) {
            let (weak, opaque) = tag.strip_prefix("W/").map_or((false, tag), |opaque| (true, opaque));
            let Some(inner) = opaque.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) else {
                return Some(Tags::Malformed(format!(
                    "{name} must be * or ETags in double quotes, like \"7\""
                )));
            };
            if !weak || weak_allowed {
                generations.extend(inner.parse::<u64>().ok());
            }
        }
    }
    Some(Tags::Generations(generations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(value: &'static str) -> Option<Tags> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
        tags(&headers, &header::IF_MATCH, false)
    }

    #[test]
    fn tags_are_read() {
        assert_eq!(if_match("*"), Some(Tags::Any));
        assert_eq!(if_match("\"7\", \"9\""), Some(Tags::Generations(vec![7, 9])));
        assert_eq!(if_match("\"other\""), Some(Tags::Generations(vec![])));
        assert_eq!(if_match("W/\"7\""), Some(Tags::Generations(vec![])), "If-Match compares strongly");
        assert!(matches!(if_match("7"), Some(Tags::Malformed(_))));
        assert_eq!(tags(&HeaderMap::new(), &header::IF_MATCH, false), None);
    }

    #[test]
    fn an_etag_is_read_back() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, etag(42));
        assert_eq!(tags(&headers, &header::IF_NONE_MATCH, true), Some(Tags::Generations(vec![42])));
    }
}
