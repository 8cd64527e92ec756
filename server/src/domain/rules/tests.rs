use rstest::rstest;

use super::*;

fn new(title: &str, material: &str, maximum_volume: f32) -> NewPackage {
    NewPackage { title: title.into(), material: material.into(), maximum_volume, reusable: false }
}

fn fields(result: Result<(), Invalid>) -> Vec<&'static str> {
    match result {
        Ok(()) => Vec::new(),
        Err(Invalid::NoChanges | Invalid::Key | Invalid::KeyOfOther) => vec!["no changes specified"],
        Err(Invalid::Fields(violations)) => violations.as_slice().iter().map(|one| one.field).collect(),
    }
}

#[rstest]
#[case::plain(new("box", "wood", 1.0), &[])]
#[case::one_character(new("x", "y", f32::MIN_POSITIVE), &[])]
#[case::longest(new(&"ж".repeat(32), &"📦".repeat(32), f32::MAX), &[])]
#[case::spaces_are_characters(new(" ", "\n", 1.0), &[])]
#[case::empty_title(new("", "wood", 1.0), &["Title"])]
#[case::long_title(new(&"ж".repeat(33), "wood", 1.0), &["Title"])]
#[case::nul(new("bo\0x", "wo\0od", 1.0), &["Title", "Material"])]
#[case::zero(new("box", "wood", 0.0), &["MaximumVolume"])]
#[case::minus_zero(new("box", "wood", -0.0), &["MaximumVolume"])]
#[case::negative(new("box", "wood", -1.0), &["MaximumVolume"])]
#[case::nan(new("box", "wood", f32::NAN), &["MaximumVolume"])]
#[case::infinite(new("box", "wood", f32::INFINITY), &["MaximumVolume"])]
#[case::everything(new("", "", 0.0), &["Title", "Material", "MaximumVolume"])]
fn a_creation_names_the_fields_at_fault_in_order(#[case] request: NewPackage, #[case] at_fault: &[&str]) {
    assert_eq!(fields(request.validate()), at_fault);
}

#[rstest]
#[case::nothing_set(1, Changes::default(), &["no changes specified"])]
#[case::id_before_no_changes(0, Changes::default(), &["PackageID"])]
#[case::id_before_fields(0, Changes { title: Some("x".repeat(33)), ..Changes::default() }, &["PackageID", "Title"])]
#[case::false_is_a_change(1, Changes { reusable: Some(false), ..Changes::default() }, &[])]
#[case::volume(1, Changes { maximum_volume: Some(0.5), ..Changes::default() }, &[])]
#[case::bad_volume(1, Changes { maximum_volume: Some(-0.5), ..Changes::default() }, &["MaximumVolume"])]
#[case::nan(1, Changes { maximum_volume: Some(f32::NAN), ..Changes::default() }, &["MaximumVolume"])]
#[case::nul(1, Changes { material: Some("\0".into()), ..Changes::default() }, &["Material"])]
fn an_update_is_judged_id_first_and_emptiness_last(
    #[case] id: u64,
    #[case] changes: Changes,
    #[case] at_fault: &[&str],
) {
    assert_eq!(fields(changes.validate(id)), at_fault);
}

#[test]
fn an_id_must_be_above_zero() {
    assert_eq!(fields(validate_id(0)), ["PackageID"]);
    assert_eq!(fields(validate_id(1)), [""; 0]);
    assert_eq!(fields(validate_id(u64::MAX)), [""; 0]);
}

#[test]
fn the_text_of_an_error_is_the_first_field() {
    let error = new("box", "", 0.0).validate().map_err(|error| error.to_string());
    assert_eq!(error, Err("Material".to_owned()));
}
