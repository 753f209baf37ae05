//! The page's files, out of the binary, and the plain page for those who haven't logged in.
//!
//! Files with a hash in their name are kept by browsers for ever, the others are asked for again
//! and answered with 304 where they haven't changed. The gzip form is the one made at build time.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use outlast_ui::Asset;

use super::Shared;

const FOR_EVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Answers the page itself.
pub(super) fn index(headers: &HeaderMap) -> Response {
    match outlast_ui::index() {
        Some(asset) => answer(asset, headers),
        None => (
            StatusCode::NOT_FOUND,
            "this program was built without its page\n",
        )
            .into_response(),
    }
}

/// Answers a file of the page.
pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !shared.admits(&headers) {
        return log_in_first();
    }
    let asset = uri.path().strip_prefix('/').and_then(outlast_ui::asset);
    asset.map_or_else(
        || (StatusCode::NOT_FOUND, "no such file\n").into_response(),
        |asset| answer(asset, &headers),
    )
}

/// Refuses a request without a session that no person reads.
pub(super) fn log_in_first() -> Response {
    (
        StatusCode::UNAUTHORIZED,
        "log in first: outlast dashboard\n",
    )
        .into_response()
}

/// Says how to log in, after `why`; nothing about the node or its mesh.
pub(super) fn locked(why: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"dark light\">\n<title>Outlast</title>\n\
         <p>{why}</p>\n<p>To open it, run <code>outlast dashboard</code> on its machine.</p>\n"
    );
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (StatusCode::UNAUTHORIZED, html, page).into_response()
}

/// A page of our own that leads to `/`, so that the next request is no longer another site's.
pub(super) fn lead_home() -> Response {
    let page = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Outlast</title>\n\
                <meta http-equiv=\"refresh\" content=\"0;url=/\">\n<p><a href=\"/\">Open the dashboard</a></p>\n";
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (html, page).into_response()
}

fn answer(asset: Asset, headers: &HeaderMap) -> Response {
    let (bytes, encoded) = match asset.gzip {
        Some(gzip) if takes_gzip(headers) => (gzip, true),
        _ => (asset.bytes, false),
    };
    // One tag for each form: a cache must not give gzip to who can't read it.
    let form = if encoded { "-gz" } else { "" };
    let tag = format!("\"{}{form}\"", HEXLOWER.encode(&asset.hash[..16]));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.contains(&tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.mime)], body(bytes)).into_response()
    };
    let answer = response.headers_mut();
    let cache = if asset.immutable { FOR_EVER } else { ASK_AGAIN };
    answer.insert(header::CACHE_CONTROL, cache);
    answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    answer.insert(
        header::ETAG,
        HeaderValue::try_from(tag).expect("hex digits are a header value"),
    );
    if encoded {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn body(bytes: Cow<'static, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    let mut codings = accepted.unwrap_or_default().split(',').map(str::trim);
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !weight.trim().eq_ignore_ascii_case("q=0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_takes_gzip_gets_it() {
        let response = answer(
            sample(true),
            &request(&[("accept-encoding", "br, gzip;q=0.8")]),
        );
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::CACHE_CONTROL], FOR_EVER);
        let plain = answer(
            sample(true),
            &request(&[("accept-encoding", "br, gzip;q=0")]),
        );
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert_ne!(
            plain.headers()[header::ETAG],
            response.headers()[header::ETAG]
        );
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let first = answer(sample(false), &request(&[]));
        assert_eq!(first.headers()[header::CACHE_CONTROL], ASK_AGAIN);
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        let second = answer(sample(false), &request(&[("if-none-match", tag)]));
        assert_eq!(second.status(), 304);
    }

    #[test]
    fn the_plain_page_says_what_to_run() {
        let response = locked("Why.");
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/html; charset=utf-8"
        );
    }

    fn sample(immutable: bool) -> Asset {
        Asset {
            bytes: Cow::Borrowed(b"plain"),
            gzip: Some(Cow::Borrowed(b"gz")),
            mime: "text/css; charset=utf-8",
            hash: [7; 32],
            immutable,
        }
    }

    fn request(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }
}
