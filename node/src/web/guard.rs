//! Whose page is asking? Checked before any path is looked at.
//!
//! `Host` must be an address or name of this dashboard, so that a foreign name that was made to
//! resolve to it (DNS rebinding) reaches nothing. `Origin`, where a browser sends one, must be this
//! dashboard's; `/live` demands it. Reading methods only. Every answer carries the headers that
//! keep the page to itself.
//! Absent: who is logged in (`auth`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Shared;

/// The hosts under which browsers may ask, each with its port.
#[derive(Debug)]
pub(super) struct Hosts {
    allowed: Vec<String>,
    /// Where every address of the machine is bound, each may be asked; a name still has to be known.
    any_address: Option<u16>,
}

impl Hosts {
    pub(super) fn new(bound: SocketAddr, names: &[String]) -> Self {
        let port = bound.port();
        let mut allowed = vec![bound.to_string()];
        if bound.ip().is_loopback() || bound.ip().is_unspecified() {
            allowed.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| with_port(name, port)));
        }
        allowed.extend(
            names
                .iter()
                .map(|name| with_port(&name.to_ascii_lowercase(), port)),
        );
        // Browsers leave the port away where it is the scheme's own; a proxy in front may be on 443.
        allowed.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        Self {
            allowed,
            any_address: bound.ip().is_unspecified().then_some(port),
        }
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.allowed.contains(&host) || self.any_address.is_some_and(|port| is_address(&host, port))
    }
}

pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let live = request.uri().path() == "/live";
    let (host, refusal) = match admit(&shared.hosts, request.method(), request.headers(), live) {
        Ok(host) => (host.to_owned(), None),
        Err(refusal) => (String::new(), Some(refusal)),
    };
    let mut response = match refusal {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    protect(response.headers_mut(), &host);
    response
}

/// The host asked for, or why not.
pub(super) fn admit<'a>(
    hosts: &Hosts,
    method: &Method,
    headers: &'a HeaderMap,
    live: bool,
) -> Result<&'a str, (StatusCode, &'static str)> {
    let host = only(headers, header::HOST).filter(|host| hosts.allows(host));
    let host = host.ok_or((
        StatusCode::FORBIDDEN,
        "this is not a name of this dashboard\n",
    ))?;
    let foreign = (
        StatusCode::FORBIDDEN,
        "another page may not ask this dashboard\n",
    );
    if headers.contains_key(header::ORIGIN) || live {
        let origin = only(headers, header::ORIGIN).ok_or(foreign)?;
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority
            .filter(|authority| authority.eq_ignore_ascii_case(host))
            .ok_or(foreign)?;
    }
    if method != Method::GET && method != Method::HEAD {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "nothing here can be changed\n",
        ));
    }
    Ok(host)
}

pub(super) fn protect(headers: &mut HeaderMap, host: &str) {
    // Older Safaris don't count a WebSocket to the page's own host as 'self'.
    let policy = format!(
        "default-src 'self'; connect-src 'self' ws://{host} wss://{host}; object-src 'none'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let strict = "default-src 'none'; frame-ancestors 'none'";
    let policy = if host.is_empty() { strict } else { &policy };
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_str(policy).unwrap_or_else(|_| HeaderValue::from_static(strict));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// The value of a header that is there exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn with_port(name: &str, port: u16) -> String {
    format!("{name}:{port}")
}

fn is_address(host: &str, port: u16) -> bool {
    let Some((address, given)) = host.rsplit_once(':') else {
        return false;
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    given.parse() == Ok(port) && bare.unwrap_or(address).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: Result<(), u16> = Err(403);

    #[test]
    fn a_loopback_dashboard_answers_its_address_and_localhost() {
        let hosts = hosts("127.0.0.1:5180", &[]);
        for host in [
            "127.0.0.1:5180",
            "localhost:5180",
            "LOCALHOST:5180",
            "[::1]:5180",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "localhost:80",
            "evil.example:5180",
            "127.0.0.2:5180",
            "",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn a_dashboard_for_all_answers_addresses_and_its_names() {
        let hosts = hosts("0.0.0.0:5180", &["Box.lan"]);
        for host in [
            "192.168.1.7:5180",
            "[fd00::7]:5180",
            "box.lan:5180",
            "box.lan",
            "localhost:5180",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "192.168.1.7:80",
            "192.168.1.7",
            "rebound.example:5180",
            "box.lan:80",
            "7:5180",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn one_address_is_only_itself() {
        let hosts = hosts("192.168.1.7:5180", &[]);
        assert!(hosts.allows("192.168.1.7:5180"));
        assert!(!hosts.allows("localhost:5180"));
        assert!(!hosts.allows("192.168.1.8:5180"));
    }

    #[test]
    fn the_live_connection_needs_an_origin_and_the_right_one() {
        let asked = |origin: &[&str], live| outcome(Method::GET, &["localhost:5180"], origin, live);
        assert_eq!(asked(&["http://localhost:5180"], true), Ok(()));
        assert_eq!(asked(&[], true), FORBIDDEN);
        assert_eq!(asked(&[], false), Ok(()));
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:5180",
            "localhost:5180",
            "http://localhost:5180/",
            "ftp://localhost:5180",
        ] {
            assert_eq!(asked(&[origin], true), FORBIDDEN, "{origin}");
            assert_eq!(asked(&[origin], false), FORBIDDEN, "{origin}");
        }
        assert_eq!(
            asked(&["http://localhost:5180", "http://localhost:5180"], true),
            FORBIDDEN
        );
    }

    #[test]
    fn a_host_must_be_there_once_and_known() {
        for host in [
            &[][..],
            &["evil.example:5180"],
            &["localhost:5180", "localhost:5180"],
        ] {
            assert_eq!(
                outcome(Method::GET, host, &[], false),
                FORBIDDEN,
                "{host:?}"
            );
        }
    }

    #[test]
    fn nothing_can_be_changed() {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
            Method::CONNECT,
        ] {
            assert_eq!(outcome(method, &["localhost:5180"], &[], false), Err(405));
        }
        assert_eq!(
            outcome(Method::HEAD, &["localhost:5180"], &[], false),
            Ok(())
        );
    }

    #[test]
    fn every_answer_keeps_the_page_to_itself() {
        let mut headers = HeaderMap::new();
        protect(&mut headers, "localhost:5180");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'; connect-src 'self' ws://localhost:5180 "));
        assert!(policy.ends_with("frame-ancestors 'none'"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    fn hosts(bound: &str, names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Hosts::new(bound.parse().unwrap(), &names)
    }

    fn outcome(method: Method, host: &[&str], origin: &[&str], live: bool) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        for value in host {
            headers.append(header::HOST, value.parse().unwrap());
        }
        for value in origin {
            headers.append(header::ORIGIN, value.parse().unwrap());
        }
        let admitted = admit(&hosts("127.0.0.1:5180", &[]), &method, &headers, live);
        admitted.map(drop).map_err(|(status, _)| status.as_u16())
    }
}
