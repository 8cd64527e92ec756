//! Texts from records, which anyone may have written, are shown on terminals.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether it may move the cursor, change colours or titles (control characters, C1's among them), or have the line read
/// in another order or as two (Unicode's bidirectional controls and separators: "Trojan Source", CVE-2021-42574).
fn drives_a_terminal(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with `\u001b` for what drives a terminal. That is how JSON writes it, so JSON stays JSON, and the same.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(drives_a_terminal) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if drives_a_terminal(letter) {
            let _ = write!(safe, "\\u{:04x}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_escaped_and_nothing_else() {
        assert_eq!(escaped("\x1b[2J\r\n\x7f"), r"\u001b[2J\u000d\u000a\u007f");
        assert_eq!(escaped("\u{9b}31m \u{202e}gnp"), r"\u009b31m \u202egnp");
        assert_eq!(escaped("café 箱 🦀 \\ \""), "café 箱 🦀 \\ \"");
    }
}
