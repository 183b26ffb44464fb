//! Answers to `401`: the challenge names a token service, or wants the password itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::Credentials;

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The first challenge that we can answer.
    pub fn find(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(ChallengeParser::new).filter_map(Result::ok).find_map(|challenge| {
            let param = |wanted: &str| {
                let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped())
            };
            match challenge.scheme.to_ascii_lowercase().as_str() {
                "basic" => Some(Self::Basic),
                "bearer" => Some(Self::Bearer { realm: param("realm")?, service: param("service") }),
                _ => None,
            }
        })
    }
}

/// A token as an `Authorization` header.
pub fn token(body: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    sensitive(format!("Bearer {token}"))
}

/// A password as an `Authorization` header.
pub fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials { username, password } = credentials;
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// A header that never shows in a log; none if the text can't be one.
fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Option<Challenge> {
        Challenge::find(&HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap())]))
    }

    #[test]
    fn challenges() {
        let bearer = |service: Option<&str>| {
            Some(Challenge::Bearer { realm: "https://auth/token".to_owned(), service: service.map(str::to_owned) })
        };
        assert_eq!(find(r#"Bearer realm="https://auth/token",service="registry",scope="x""#), bearer(Some("registry")));
        assert_eq!(find(r#"bearer Realm="https://auth/token""#), bearer(None));
        assert_eq!(find(r#"Basic realm="x""#), Some(Challenge::Basic));
        for none in ["", "Negotiate", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(find(none), None, "{none}");
        }
    }

    #[test]
    fn a_token_has_to_fit_a_header() {
        assert_eq!(token(br#"{"token":"abc"}"#).unwrap(), "Bearer abc");
        assert_eq!(token(br#"{"access_token":"abc"}"#).unwrap(), "Bearer abc");
        for bad in [r#"{"token":"a\nb"}"#, r#"{"token":""}"#, "{}", "[]", ""] {
            assert_eq!(token(bad.as_bytes()), None, "{bad}");
        }
    }
}
