//! Text as a QR code of half blocks, for a phone or another machine's camera.
//!
//! In: one short text. Out: lines for standard error; standard output stays the text's.
//! Invariant: what the screen would break into noise is not drawn; it is said how much room it needs.
//! Absent: colour; light modules are drawn, dark ones left out, which dark and light terminals both scan.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::failure::Failure;
use crate::text::{aside, screen_of};

/// Draws `text` on standard error.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    let drawn = draw(text)?;
    match too_large(&drawn, screen_of(std::io::stderr())) {
        Some(said) => Err(Failure::new(said)),
        None => {
            aside(drawn);
            Ok(())
        }
    }
}

/// What to do where a code doesn't fit the screen. `None`: it does, or there is none.
fn too_large(drawn: &str, screen: Option<(usize, usize)>) -> Option<String> {
    let (columns, lines) = screen?;
    let wide = drawn.lines().next().map_or(0, |line| line.chars().count());
    let high = drawn.lines().count();
    (wide > columns || high > lines).then(|| {
        format!(
            "its QR code takes {wide} columns and {high} lines, and this terminal has {columns} and {lines}: make the \
             window larger or its letters smaller, and ask again; what was printed is good without it"
        )
    })
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

    #[test]
    fn a_code_that_the_screen_would_break_is_not_drawn() {
        let drawn = draw("http://127.0.0.1:5180/login?ticket=abc").unwrap();
        for fits in [None, Some((37, 19)), Some((200, 50))] {
            assert_eq!(too_large(&drawn, fits), None, "{fits:?}");
        }
        for small in [(36, 50), (200, 18)] {
            let said = too_large(&drawn, Some(small)).unwrap();
            assert!(said.contains("takes 37 columns and 19 lines"), "{said}");
        }
    }

    #[test]
    fn capitals_make_a_smaller_code() {
        let token = format!("ol1{}", "abcdefghijklmnopqrstuvwxyz234567".repeat(30));
        let width = |text: &str| draw(text).unwrap().lines().next().unwrap().chars().count();
        assert_eq!((width(&token), width(&token.to_uppercase())), (113, 97));
    }
}
