//! What people type behind a command: ids, volumes, yes and no, and fields such as `название=ведро`.

/// Code points of a title or a material at most; the package API has the same bound.
const TEXT_CHARS_MAX: usize = 32;

/// A field of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `название`
    Title,
    /// `материал`
    Material,
    /// `объём`, also written `объем`
    Volume,
    /// `многоразовая`
    Reusable,
}

impl Field {
    /// All of them, in the order in which people are told of them.
    pub const ALL: [Self; 4] = [Self::Title, Self::Material, Self::Volume, Self::Reusable];

    /// What it is called in replies.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Title => "Название",
            Self::Material => "Материал",
            Self::Volume => "Объём",
            Self::Reusable => "Многоразовая",
        }
    }

    /// By the name that was typed, in any case, with `е` or `ё`.
    fn named(name: &str) -> Option<Self> {
        let folded = fold(name);
        Self::ALL.into_iter().find(|field| fold(field.label()) == folded)
    }
}

/// Lower case, with `ё` in both of its encodings as `е`.
fn fold(name: &str) -> String {
    name.to_lowercase().replace("е\u{308}", "е").replace('ё', "е")
}

/// What is wrong with fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldMistake {
    /// No field has that name, or there is no `=`.
    Unknown(String),
    /// The field is there twice.
    Twice(Field),
    /// The field's value is not one.
    Value(Field),
}

/// Fields as they were typed: their values are not judged yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Typed<'a>([Option<&'a str>; 4]);

impl<'a> Typed<'a> {
    fn read(parts: &[&'a str]) -> Result<Self, FieldMistake> {
        let mut typed = Self::default();
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| FieldMistake::Unknown((*part).to_owned()))?;
            let name = name.trim();
            let field = Field::named(name).ok_or_else(|| FieldMistake::Unknown(name.to_owned()))?;
            if typed.0[field as usize].replace(value.trim()).is_some() {
                return Err(FieldMistake::Twice(field));
            }
        }
        Ok(typed)
    }

    /// The value of a field as `parse` reads it; `None` where it was not typed.
    fn value<T>(&self, field: Field, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, FieldMistake> {
        self.0[field as usize].map(|text| parse(text).ok_or(FieldMistake::Value(field))).transpose()
    }
}

/// Values of fields: those that were typed, all of them valid.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Fields {
    /// 1 to 32 code points.
    pub title: Option<String>,
    /// 1 to 32 code points.
    pub material: Option<String>,
    /// Above 0, finite.
    pub volume: Option<f32>,
    /// Whether it can be used again.
    pub reusable: Option<bool>,
}

impl Fields {
    /// Reads parts of the form `name=value`. Volume and yes or no are judged before the texts: that is the order in which
    /// mistakes have always been reported.
    ///
    /// # Errors
    /// The first mistake.
    pub fn read(parts: &[&str]) -> Result<Self, FieldMistake> {
        let typed = Typed::read(parts)?;
        let number = typed.value(Field::Volume, number)?;
        let reusable = typed.value(Field::Reusable, yes_or_no)?;
        let title = typed.value(Field::Title, text)?;
        let material = typed.value(Field::Material, text)?;
        let volume = number
            .map(|number| if number > 0.0 { Ok(number) } else { Err(FieldMistake::Value(Field::Volume)) });
        Ok(Self { title, material, volume: volume.transpose()?, reusable })
    }

    /// Whether none was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The parts between semicolons, trimmed. Empty ones count for nothing: people end lines with a semicolon.
#[must_use]
pub fn parts(text: &str) -> Vec<&str> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A package's id: decimal digits, leading zeros allowed, up to 2^64 - 1.
#[must_use]
pub fn id(text: &str) -> Option<u64> {
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A number in decimal notation, with a point or a comma, also as `1e3` or `1_000`; nothing that is not finite in single
/// precision.
#[must_use]
pub fn number(text: &str) -> Option<f32> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once(['.', ',']).unwrap_or((unsigned, ""));
    let some_digits = !(whole.is_empty() && fraction.is_empty());
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !(some_digits && exponent_is_one && are_digits(whole) && are_digits(fraction)) {
        return None;
    }
    let plain = text.replace('_', "").replace(',', ".");
    plain.parse().ok().filter(|number: &f32| number.is_finite())
}

/// Digits, with underscores between them at most.
fn are_digits(text: &str) -> bool {
    text.is_empty()
        || text.split('_').all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()))
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "да" | "+" | "true" => Some(true),
        "нет" | "-" | "false" => Some(false),
        _ => None,
    }
}

fn text(text: &str) -> Option<String> {
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5", Some(5))]
    #[case("007", Some(7))]
    #[case("18446744073709551615", Some(u64::MAX))]
    #[case("18446744073709551616", None)]
    #[case("", None)]
    #[case("+5", None)]
    #[case("-5", None)]
    #[case("5 6", None)]
    #[case("٥", None)]
    fn an_id_is_digits_alone(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(id(text), expected);
    }

    #[rstest]
    #[case("700", Some(700.0))]
    #[case("1,5", Some(1.5))]
    #[case("1.5", Some(1.5))]
    #[case(".5", Some(0.5))]
    #[case("5.", Some(5.0))]
    #[case("1e3", Some(1000.0))]
    #[case("1E+3", Some(1000.0))]
    #[case("1_000", Some(1000.0))]
    #[case("-5", Some(-5.0))]
    #[case("3.4e38", Some(3.4e38))]
    #[case("3.5e38", None)]
    #[case("0x10", None)]
    #[case("0x10p0", None)]
    #[case("NaN", None)]
    #[case("inf", None)]
    #[case("infinity", None)]
    #[case("", None)]
    #[case(".", None)]
    #[case("1e", None)]
    #[case("1,000.5", None)]
    #[case("_1", None)]
    #[case("1__0", None)]
    #[case("700 мл", None)]
    fn a_volume_is_a_plain_decimal_number(#[case] text: &str, #[case] expected: Option<f32>) {
        assert_eq!(number(text), expected);
    }

    #[test]
    fn keys_are_taken_in_any_case_and_with_either_letter() {
        for name in ["объём", "объем", "ОБЪЁМ", "Объем", "объе\u{308}м"] {
            let part = format!("{name}= 5 ");
            assert_eq!(Fields::read(&[&part]).expect(name).volume, Some(5.0));
        }
    }

    #[rstest]
    #[case(&["foo=да"], FieldMistake::Unknown("foo".into()))]
    #[case(&["название"], FieldMistake::Unknown("название".into()))]
    #[case(&["название=a", "НАЗВАНИЕ=b"], FieldMistake::Twice(Field::Title))]
    #[case(&["название=", "объём=0"], FieldMistake::Value(Field::Title))]
    #[case(&["объём=0"], FieldMistake::Value(Field::Volume))]
    #[case(&["объём=-1"], FieldMistake::Value(Field::Volume))]
    #[case(&["название=", "многоразовая=maybe", "объём=x"], FieldMistake::Value(Field::Volume))]
    #[case(&["название=", "многоразовая=maybe"], FieldMistake::Value(Field::Reusable))]
    fn the_first_mistake_is_named(#[case] parts: &[&str], #[case] expected: FieldMistake) {
        assert_eq!(Fields::read(parts), Err(expected));
    }

    #[test]
    fn texts_are_counted_in_code_points() {
        let longest = "ё".repeat(32);
        assert_eq!(
            Fields::read(&[&format!("материал={longest}")]).expect("32").material,
            Some(longest.clone())
        );
        assert_eq!(
            Fields::read(&[&format!("материал={longest}a")]),
            Err(FieldMistake::Value(Field::Material))
        );
    }

    proptest! {
        /// Whatever is typed, it is read or refused; what is read is valid.
        #[test]
        fn what_is_read_is_valid(text in "(название|материал|объём|объем|многоразовая|foo|;|=|да|нет|[0-9,.e_+-]|\\PC){0,12}") {
            let parts = parts(&text);
            if let Ok(fields) = Fields::read(&parts) {
                prop_assert!(fields.volume.is_none_or(|volume| volume > 0.0 && volume.is_finite()));
                for text in fields.title.iter().chain(&fields.material) {
                    prop_assert!((1..=32).contains(&text.chars().count()) && text.trim() == text);
                }
                let typed = [fields.title.is_some(), fields.material.is_some(), fields.volume.is_some(), fields.reusable.is_some()];
                prop_assert_eq!(typed.iter().filter(|typed| **typed).count(), parts.len(), "each part counts");
            }
        }

        /// Order, case and blanks do not matter, and a value may hold `=`.
        #[test]
        fn fields_are_read_in_any_order(
            title in "[a-zа-я=]{1,32}",
            material in "[a-zа-я=]{1,32}",
            volume in 0.001f32..1e30,
            reusable: bool,
            order in Just([0usize, 1, 2, 3]).prop_shuffle(),
            upper: bool,
        ) {
            let case = |name: &str| if upper { name.to_uppercase() } else { name.to_owned() };
            let typed = [
                format!(" {} = {title} ", case("название")),
                format!("{}={material}", case("материал")),
                format!("\n{}={volume}", case("объём")),
                format!("{}={}", case("многоразовая"), if reusable { "Да" } else { "НЕТ" }),
            ];
            let text = order.map(|nth| typed[nth].clone()).join(";");
            let expected = Fields { title: Some(title), material: Some(material), volume: Some(volume), reusable: Some(reusable) };
            prop_assert_eq!(Fields::read(&parts(&text)), Ok(expected));
        }

        #[test]
        fn a_number_reads_as_what_it_was_written_from(number in any::<f32>().prop_filter("finite", |number| number.is_finite())) {
            for text in [number.to_string(), format!("{number:e}"), number.to_string().replace('.', ",")] {
                prop_assert_eq!(super::number(&text), Some(number));
            }
        }
    }
}
