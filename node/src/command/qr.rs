//! Text as a QR code of half blocks, for a phone or another machine's camera.
//!
//! In: one short text. Out: lines for standard error; standard output stays the text's.
//! Absent: colour; light modules are drawn, dark ones left out, which dark and light terminals both scan.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::failure::Failure;
use crate::text::aside;

/// Draws `text` on standard error.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    aside(draw(text)?);
    Ok(())
}

fn draw(text: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| Failure::new(format!("{} bytes fit no QR code: {error}", text.len())))?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_square_with_a_quiet_margin() {
        let drawn = draw("http://127.0.0.1:5180/login?ticket=abc").unwrap();
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        // Version 3 has 29 modules, and four of margin on each side.
        assert!(widths.iter().all(|width| *width == 37), "{widths:?}");
        assert_eq!(widths.len(), 19);
        assert!(draw(&"x".repeat(3_000)).is_err());
    }
}
