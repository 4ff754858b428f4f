//! The query of a list: how many, and from where on.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::problem::Problem;

/// `?limit=&after=`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// 1 to 500.
    pub(crate) limit: u32,
    /// The last name of the page before.
    pub(crate) after: Option<String>,
}

/// Where the page after the one that ends with `name` begins. Opaque to clients: it may come to hold more.
pub(crate) fn cursor(name: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{VERSION}{name}"))
}

impl<S: Send + Sync> FromRequestParts<S> for Window {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_: QueryRejection| Problem::bad_request("the query can't be understood"))?;
        let (mut limit, mut after) = (None, None);
        for (field, value) in pairs {
            let twice = match field.as_str() {
                "limit" => limit.replace(read_limit(&value)?).is_some(),
                "after" => after.replace(read_cursor(&value)?).is_some(),
                _ => {
                    return Err(Problem::bad_request(format!(
                        "{field:?} is not known here; allowed: limit, after"
                    )));
                }
            };
            if twice {
                return Err(Problem::bad_request(format!("{field} stands twice")));
            }
        }
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after })
    }
}

pub(crate) const DEFAULT_LIMIT: u32 = 100;
pub(crate) const MAX_LIMIT: u32 = 500;
const VERSION: &str = "1:";

fn read_limit(value: &str) -> Result<u32, Problem> {
    value
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| Problem::bad_request(format!("limit must be an integer from 1 to {MAX_LIMIT}")))
}

fn read_cursor(value: &str) -> Result<String, Problem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(value)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(VERSION).map(str::to_owned))
        .ok_or_else(|| Problem::bad_request("after must be the `next` of an earlier page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        assert_eq!(read_cursor(&cursor("site-a")).unwrap(), "site-a");
        for bad in ["", "site-a", "!", &BASE64_URL_SAFE_NO_PAD.encode("2:x")] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_refused_not_clamped() {
        assert_eq!(read_limit("500").unwrap(), 500);
        for bad in ["0", "501", "-1", "", "1.0", "x"] {
            assert!(read_limit(bad).is_err(), "{bad}");
        }
    }
}
