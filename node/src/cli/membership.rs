//! What the commands about membership take: who belongs to the mesh, who decides that, and with which keys.
//!
//! In: words of the command line. Out: values with their meaning; a word that has none is refused here, by name.
//! Absent: what each command does, which is in its file in `command/`.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::node_name;
use crate::text::escaped;
use crate::when;

/// Bytes of a reason at most, as the statement that carries it has room for.
const MAX_REASON: usize = 200;

/// With which key a command signs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SignArgs {
    /// Sign with this admin key [default: the one of this mesh in your configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key: Option<PathBuf>,
    /// Read that key's passphrase from a file [default: asks on the terminal, if it has one]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Whether a new key gets a passphrase, and from where.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NewPassphraseArgs {
    /// Give the admin key a passphrase, asked for on the terminal
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) passphrase: bool,
    /// Give the admin key the passphrase in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `evict`.
#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    /// Which node: a name or the beginning of an id, 4 letters or more
    pub(crate) node: String,
    /// Why, for everybody to read; it is told so too
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// Whom it let in since then is out as well: 2h, RFC 3339, or milliseconds since the epoch
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) since: Option<i64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `retire`.
#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    /// Which node: a name or the beginning of an id, 4 letters or more
    pub(crate) node: String,
    /// Why, for everybody to read
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `rename`.
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Which node: a name or the beginning of an id
    pub(crate) node: String,
    /// What it is called from now on: a-z, 0-9 and -, at most 63 letters
    #[arg(value_parser = node_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Which node: a name or the beginning of an id, 4 letters or more [default: lists those that wait]
    pub(crate) node: Option<String>,
    /// Print those that wait as JSON
    #[arg(long, conflicts_with = "node")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `leave`.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Why, for everybody to read
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// Leave even if nobody hears of it; the others go on waiting for this node until it is retired
    #[arg(long)]
    pub(crate) force: bool,
}

/// `admin`.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// What is done about admins.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Print the public half of your admin key, making the key if you have none
    #[command(after_help = "\
Examples:
  outlast admin key                      your public key, for an admin to add
  outlast admin key --passphrase         who signs is asked for it from now on; again: another
  outlast admin key --no-passphrase      and no more
A lost passphrase is a lost key: the recovery words or another admin help then, nobody else.")]
    Key(KeyArgs),
    /// Let another key invite, set and evict, one rank below yours
    Add {
        /// What the key is called: a-z, 0-9 and -, at most 63 letters
        #[arg(value_parser = node_name)]
        label: String,
        /// The other's public key, as `outlast admin key` printed it
        #[arg(
            value_name = "PUBLIC",
            required_unless_present = "out",
            conflicts_with = "out"
        )]
        public: Option<String>,
        /// Make the key here instead and write it to a new file, to be carried to its owner
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How far below the founder: 2 and up, more than your own [default: one more than your own]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
        rank: Option<u8>,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// Take a key's rights back; only one of a higher rank can, or the key itself
    Revoke {
        /// Which key: its label or the beginning of it
        admin: String,
        /// Why, for everybody to read
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
        /// What it signed since then counts for nothing: 2h, RFC 3339, or milliseconds since the epoch
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<i64>,
        #[command(flatten)]
        sign: SignArgs,
    },
    /// List every key that may or might decide
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `admin key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// This key file [default: the one of this mesh in your configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) new: NewPassphraseArgs,
    /// Take the passphrase off the key
    #[arg(long, conflicts_with_all = ["passphrase", "passphrase_file"])]
    pub(crate) no_passphrase: bool,
    /// Read the passphrase that the key has from a file [default: asks on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) old_passphrase_file: Option<PathBuf>,
}

/// `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Read the 24 words from a file; without it from the terminal or standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
    /// What the new admin key is called: a-z, 0-9 and -, at most 63 letters
    #[arg(long, value_name = "NAME", default_value = "recovered", value_parser = node_name)]
    pub(crate) label: String,
    /// Take the rights of a lost or stolen key back, its label or the beginning of it; repeatable
    #[arg(long, value_name = "ADMIN")]
    pub(crate) revoke: Vec<String>,
    /// What the revoked keys signed since then counts for nothing: 2h, RFC 3339, or milliseconds since the epoch
    #[arg(long, value_name = "WHEN", value_parser = since, requires = "revoke")]
    pub(crate) since: Option<i64>,
    /// Give the new admin key a passphrase, asked for on the terminal
    #[arg(long, conflicts_with_all = ["passphrase_file", "setup"])]
    pub(crate) passphrase: bool,
    /// Give the new admin key the passphrase in this file; with --setup, the one of the key that signs
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Make recovery words for a mesh that has none, with the admin key
    #[arg(long, conflicts_with_all = ["words_file", "revoke", "label"])]
    pub(crate) setup: bool,
    /// With --setup: write the words to a new file instead of showing them
    #[arg(long, value_name = "FILE", requires = "setup")]
    pub(crate) recovery_out: Option<PathBuf>,
    /// With --setup: sign with this admin key [default: the one of this mesh in your configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key: Option<PathBuf>,
}

fn reason(text: &str) -> Result<String, String> {
    if text.len() > MAX_REASON {
        return Err(format!("a reason has {MAX_REASON} bytes at most"));
    }
    if matches!(escaped(text), Cow::Owned(_)) {
        return Err(
            "a reason is one line without control, bidi or invisible characters".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// A moment in the past; a bare duration counts back from now.
fn since(text: &str) -> Result<i64, String> {
    let now_ms = when::now_ms();
    let at_ms = match when::duration(text) {
        Ok(ago) => now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        Err(_) => when::moment(text, now_ms)
            .map_err(|_wrong| format!("`{text}` is no moment; write 2h, 2026-11-23T10:00:00Z or milliseconds since the epoch"))?,
    };
    if at_ms > now_ms {
        return Err(format!("`{text}` lies ahead of now"));
    }
    Ok(at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_counts_back_or_names_a_moment() {
        let now_ms = when::now_ms();
        for text in ["2h", "-2h"] {
            let at_ms = since(text).unwrap();
            assert!(
                (now_ms - 7_200_000..now_ms - 7_190_000).contains(&at_ms),
                "{text}"
            );
        }
        assert_eq!(since("2026-01-01T00:00:00Z"), Ok(1_767_225_600_000));
        assert_eq!(since("1767225600000"), Ok(1_767_225_600_000));
        for text in ["", "yesterday", "+2h", "2999-01-01T00:00:00Z", "2"] {
            // A bare number counts milliseconds since the epoch.
            assert_eq!(since(text).is_ok(), text == "2", "{text}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_200_bytes() {
        assert_eq!(reason("stolen"), Ok("stolen".to_owned()));
        assert!(reason(&"x".repeat(200)).is_ok());
        for text in [&"x".repeat(201), "a\nb", "a\u{1b}[31mb", "x\u{202e}y"] {
            assert!(reason(text).is_err(), "{text:?}");
        }
    }
}
