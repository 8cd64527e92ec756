use rstest::rstest;

use super::*;

#[rstest]
#[case(5.0, "5 мл")]
#[case(0.4, "0,4 мл")]
#[case(700.5, "700,5 мл")]
#[case(700.1, "700,1 мл")]
#[case(1000.0, "1000 мл")]
#[case(1500.0, "1,5 л")]
#[case(1_234_567.0, "1234,567 л")]
#[case(2500.0, "2,5 л")]
#[case(10_000.0, "10 л")]
#[case(0.0001, "меньше 0,001 мл")]
fn a_volume_is_shown_as_it_is(#[case] millilitres: f32, #[case] expected: &str) {
    assert_eq!(volume(millilitres), expected);
}

#[test]
fn the_help_names_everything_and_fits_one_message() {
    let help = help();
    for kind in Kind::ALL {
        assert!(help.text.contains(&format!("/{}__logistic__package", kind.name())), "{kind:?}");
    }
    for part in
        ["название", "материал", "объём", "многоразовая", ";", "да", "нет", NEW_EXAMPLE, EDIT_EXAMPLE, "🔹"]
    {
        assert!(help.text.contains(part), "{part}");
    }
    assert!(help.text.encode_utf16().count() <= 4096);
}

#[test]
fn the_longest_page_fits_one_message() {
    let longest = Package {
        id: u64::MAX,
        title: "𝄞".repeat(32),
        material: String::new(),
        volume: 1.0,
        reusable: false,
    };
    let text = page(u64::MAX - 40, &vec![longest; 35]).text;
    assert!(text.encode_utf16().count() <= 4096, "{}", text.encode_utf16().count());
}

#[test]
fn a_title_forges_no_line() {
    let odd = Package {
        id: 3,
        title: "a\nМатериал: b\u{2028}c".into(),
        material: "m".into(),
        volume: 1.0,
        reusable: true,
    };
    assert!(package(&odd).text.starts_with("Название: a Материал: b c\nМатериал: m\n"));
    assert_eq!(page(0, &[odd]).text.lines().count(), 3);
}

#[test]
fn what_was_typed_is_shown_in_part() {
    let text = mistake(&Mistake::NotAnEditId("я".repeat(5000))).text;
    assert!(text.starts_with(&format!("идентификатор не может быть \"{}…\"", "я".repeat(64))));
}
