//! A text with parts in code font, which a tap copies.

use serde::Serialize;

/// A text and its entities. Telegram counts in UTF-16 units.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rich {
    /// What is read.
    pub text: String,
    /// What stands out in it.
    pub entities: Vec<Entity>,
}

/// A part of a text in code font.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entity {
    #[serde(rename = "type")]
    kind: &'static str,
    offset: usize,
    length: usize,
}

impl Rich {
    /// A text in which nothing stands out.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), entities: Vec::new() }
    }

    /// More plain text.
    #[must_use]
    pub fn then(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// More text, in code font.
    #[must_use]
    pub fn code(mut self, text: &str) -> Self {
        let entity = Entity { kind: "code", offset: self.units(), length: text.encode_utf16().count() };
        self.entities.push(entity);
        self.then(text)
    }

    /// Another one behind it.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let offset = self.units();
        self.entities.extend(
            other.entities.into_iter().map(|entity| Entity { offset: entity.offset + offset, ..entity }),
        );
        self.then(&other.text)
    }

    fn units(&self) -> usize {
        self.text.encode_utf16().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_count_in_utf16_units() {
        let rich = Rich::text("🔹 ").code("/get").and(Rich::text("ё ").code("x"));
        assert_eq!(rich.text, "🔹 /getё x");
        let places: Vec<_> = rich.entities.iter().map(|entity| (entity.offset, entity.length)).collect();
        assert_eq!(places, [(3, 4), (9, 1)]);
    }
}
