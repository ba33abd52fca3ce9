//! One step of a request: what is sent where, and where an answer sends it on to. Pure.

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};

/// Headers that no secret is written in, and that may go to another origin.
const HARMLESS: [&str; 7] =
    ["accept", "accept-language", "content-language", "content-type", "idempotency-key", "traceparent", "user-agent"];

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
}

impl Hop {
    /// The next step after an answer; none when it is the last.
    pub(super) fn next(mut self, status: StatusCode, answer: &HeaderMap) -> Result<Option<Self>, String> {
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = answer.get(LOCATION) else { return Ok(None) };
        let target = location.to_str().ok().and_then(|text| self.url.join(text).ok());
        let mut target = target.ok_or("it redirects to what is no URL")?;
        if !matches!(target.scheme(), "http" | "https") {
            return Err(format!("it redirects to a {} URL, which is not followed", target.scheme()));
        }
        if self.url.scheme() == "https" && target.scheme() == "http" {
            return Err("it redirects from https to http, which is not followed".into());
        }
        if target.origin() != self.url.origin() {
            let harmless = self.headers.drain().filter_map(|(name, value)| Some((name?, value)));
            self.headers = harmless.filter(|(name, _)| HARMLESS.contains(&name.as_str())).collect();
        }
        // A user and password in a redirect are none of ours.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        let becomes_get = match status.as_u16() {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = None;
            self.headers.remove(CONTENT_TYPE);
        }
        self.url = target;
        Ok(Some(self))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn hop(method: Method) -> Hop {
        let named = |name: &'static str| (HeaderName::from_static(name), HeaderValue::from_static("s"));
        let headers = ["authorization", "x-api-key", "accept", "content-type"].map(named).into_iter().collect();
        Hop { method, url: Url::parse("https://a.test/x").unwrap(), headers, body: Some(b"b".to_vec()) }
    }

    fn to(hop: Hop, status: u16, location: &'static str) -> Result<Option<Hop>, String> {
        let answer = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        hop.next(StatusCode::from_u16(status).unwrap(), &answer)
    }

    #[test]
    fn secrets_stay_with_their_origin_and_do_not_come_back() {
        let same = to(hop(Method::POST), 307, "/y").unwrap().unwrap();
        assert_eq!((same.url.as_str(), same.headers.len(), same.body.is_some()), ("https://a.test/y", 4, true));
        for other in ["https://b.test/", "https://a.test:444/", "//a.test.b.test/"] {
            let other = to(hop(Method::POST), 307, other).unwrap().unwrap();
            let left: Vec<_> = other.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(left, ["accept", "content-type"]);
            let back = to(other, 307, "https://a.test/").unwrap().unwrap();
            assert_eq!(back.headers.len(), 2);
        }
        let named = to(hop(Method::GET), 302, "https://user:pass@a.test/").unwrap().unwrap();
        assert_eq!(named.url.as_str(), "https://a.test/");
    }

    #[test]
    fn methods_change_as_browsers_change_them_and_downgrades_are_not_followed() {
        let method = |method, status| {
            let next = to(hop(method), status, "/y").unwrap().unwrap();
            (next.method, next.body.is_some())
        };
        assert_eq!(method(Method::POST, 302), (Method::GET, false));
        assert_eq!(method(Method::PUT, 302), (Method::PUT, true));
        assert_eq!(method(Method::PUT, 303), (Method::GET, false));
        assert_eq!(method(Method::HEAD, 303), (Method::HEAD, true));
        assert_eq!(method(Method::POST, 308), (Method::POST, true));
        assert!(to(hop(Method::GET), 302, "http://a.test/").unwrap_err().contains("from https to http"));
        assert!(to(hop(Method::GET), 302, "file:///etc/passwd").unwrap_err().contains("a file URL"));
        assert!(to(hop(Method::GET), 304, "/y").unwrap().is_none());
        assert!(hop(Method::GET).next(StatusCode::FOUND, &HeaderMap::new()).unwrap().is_none());
    }
}
