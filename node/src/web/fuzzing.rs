//! What a fuzzer may throw at the dashboard's server: messages of a page, and headers of whatever called.
//!
//! Absent from releases.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use outlast_mesh::NodeId;

use super::api::ClientMessage;
use super::auth::{Sessions, WebKey};
use super::guard::{Hosts, admit, protect};

/// A message of the page.
pub(crate) fn page(bytes: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<ClientMessage>(bytes) else {
        return false;
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("it was read before");
    let again = value.to_string();
    assert_eq!(
        serde_json::from_str::<ClientMessage>(&again).ok(),
        Some(message)
    );
    true
}

/// Headers of one request, a line each: `H` Host, `O` Origin, `C` Cookie, then the value.
pub(crate) fn headers(bytes: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        let Some((name, value)) = line.split_first() else {
            continue;
        };
        let name = match name {
            b'H' => header::HOST,
            b'O' => header::ORIGIN,
            _ => header::COOKIE,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let bound = ([127, 0, 0, 1], 5_180).into();
    let hosts = Hosts::new(bound, &["box.lan".to_owned()]);
    let known = [
        "127.0.0.1:5180",
        "localhost:5180",
        "[::1]:5180",
        "box.lan:5180",
        "box.lan",
    ];
    let mut admitted = false;
    for live in [false, true] {
        if let Ok(host) = admit(&hosts, &Method::GET, &headers, live) {
            assert!(
                known.contains(&host.to_ascii_lowercase().as_str()),
                "{host}"
            );
            let mut answer = HeaderMap::new();
            protect(&mut answer, host);
            assert!(answer.contains_key(header::CONTENT_SECURITY_POLICY));
            admitted = true;
        }
    }
    let sessions = sessions();
    let genuine = sessions.set_cookie(NOW_S);
    let genuine = genuine.split(';').next().unwrap_or_default();
    let (_, mac) = genuine.rsplit_once('.').expect("a session has a MAC");
    for cookie in headers.get_all(header::COOKIE) {
        let text = cookie.to_str().unwrap_or_default();
        if sessions.admits(text, NOW_S + 1) {
            // Zeros before the end change nothing: the MAC is over the number.
            assert!(text.contains(mac), "nobody else can write one");
            admitted = true;
        }
    }
    admitted
}

const NOW_S: u64 = 1_800_000_000;

fn sessions() -> Sessions {
    Sessions::new(WebKey::new([7; 32]), NodeId([8; 32]))
}

#[cfg(test)]
pub(crate) fn web_seeds(target: &str) -> Vec<Vec<u8>> {
    let cookie = sessions().set_cookie(NOW_S);
    let cookie = cookie.split(';').next().unwrap_or_default();
    let texts = match target {
        "page" => vec![
            r#"{"type":"pause"}"#.to_owned(),
            r#"{"type":"history","request":7,"node":1,"series":[0,5],"from_ms":10,"to_ms":20,"max_points":300}"#.to_owned(),
            r#"{"type":"overview","window_ms":60000}"#.to_owned(),
        ],
        _ => vec![
            "Hlocalhost:5180".to_owned(),
            "HBOX.lan\nOhttps://box.lan".to_owned(),
            format!("H[::1]:5180\nOhttp://[::1]:5180\nCa=b; {cookie}"),
        ],
    };
    texts.into_iter().map(String::into_bytes).collect()
}
