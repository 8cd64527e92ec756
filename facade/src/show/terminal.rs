//! Texts from records, which anyone may have written, are shown on terminals.

/// Whether it may move the cursor, change colours or titles (control characters, C1's among them), or have the line read
/// in another order or as two (Unicode's bidirectional controls and separators: "Trojan Source", CVE-2021-42574).
///
/// All of them are below U+10000, so JSON writes each as one `\u001b`.
pub(super) fn drives_a_terminal(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same, and what Go's `encoding/json` escapes so that JSON may stand in a page: package events have always been
/// printed so.
pub(super) fn drives_a_terminal_or_a_page(letter: char) -> bool {
    matches!(letter, '<' | '>' | '&') || drives_a_terminal(letter)
}
