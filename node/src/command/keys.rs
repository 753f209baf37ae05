//! `genkey` and `pubkey`: what `wg genkey` and `wg pubkey` do.

use std::io::Read;

use outlast_mesh::TunnelKey;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::text::Printer;

/// More than any key with white space around it.
const LONGEST_INPUT: u64 = 4096;

/// Prints a new private key.
pub(super) fn genkey(out: &mut Printer) -> Result<(), Failure> {
    out.line(TunnelKey::generate().to_base64().as_str())
}

/// Prints the public key of the private one on standard input.
pub(super) fn pubkey(out: &mut Printer) -> Result<(), Failure> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(LONGEST_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::new(format!("read the private key from standard input: {error}"))
        })?;
    let key = TunnelKey::from_base64(&text)
        .map_err(|error| Failure::new(format!("the private key on standard input: {error}")))?;
    out.line(key.public().to_string())
}
