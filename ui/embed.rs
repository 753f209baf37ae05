//! The dashboard's files, inside the binary.
//!
//! `asset` answers a path below the page's root, `index` the page itself; each with its type, a
//! content hash for `ETag`, and the gzip form made once at build time where it is smaller.
//! `build.rs` has made `dist` before this file is compiled.
//! Absent: HTTP. `node::web::assets` chooses headers and encodings.

use std::borrow::Cow;

use rust_embed::Embed;

#[derive(Embed)]
#[folder = "dist/"]
struct Dist;

/// One file of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The file as it is.
    pub bytes: Cow<'static, [u8]>,
    /// The same file under gzip; `None` where compressing doesn't pay.
    pub gzip: Option<Cow<'static, [u8]>>,
    /// Media type with its charset, ready for `Content-Type`.
    pub mime: &'static str,
    /// SHA-256 of `bytes`.
    pub hash: [u8; 32],
    /// True where the name contains a hash of the content, so that it may be cached for ever.
    pub immutable: bool,
}

/// The file at `path`, given without a leading slash; `None` where the page has no such file.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let mime = mime(path)?;
    let file = Dist::get(path)?;
    Some(Asset {
        hash: file.metadata.sha256_hash(),
        bytes: file.data,
        gzip: Dist::get(&format!("{path}.gz")).map(|file| file.data),
        mime,
        immutable: path.starts_with("assets/"),
    })
}

/// The page: what `/` answers.
#[must_use]
pub fn index() -> Option<Asset> {
    asset("index.html")
}

/// Media types of the kinds of file a build may contain; other names are not served.
fn mime(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let page = index().unwrap();
        let html = String::from_utf8(page.bytes.into_owned()).unwrap();
        let files: Vec<&str> = html
            .split(['"', ' '])
            .filter_map(|word| word.strip_prefix('/'))
            .filter(|word| word.contains('.'))
            .collect();
        assert_eq!(files.len(), 3, "{html}");
        for file in files {
            assert!(asset(file).is_some_and(|asset| asset.immutable), "{file}");
        }
        assert!(!html.contains("<style") && !html.contains("style="));
    }

    #[test]
    fn the_first_load_fits_its_budget() {
        let first_load: usize = Dist::iter()
            .filter_map(|path| asset(&path))
            .map(|asset| asset.gzip.as_ref().unwrap_or(&asset.bytes).len())
            .sum();
        assert!(first_load <= 100 * 1024, "{first_load} bytes");
    }

    #[test]
    fn what_is_no_file_of_the_page_is_not_served() {
        for path in [
            "",
            "index.html.gz",
            "source.hash",
            "assets/",
            "../Cargo.toml",
        ] {
            assert_eq!(asset(path), None, "{path}");
        }
    }
}
