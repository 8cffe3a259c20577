//! The demonstration tells its story to the end and leaves nothing behind.

mod common;

#[test]
fn the_story_is_told_to_the_end_and_nothing_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    std::fs::create_dir(&input).expect("made");
    std::fs::write(input.join("a"), common::noise(1, 3 * common::MIB + 5)).expect("written");
    std::fs::write(input.join("b"), common::holey(2, 2 * common::MIB)).expect("written");
    let scratch = folder.path().join("tmp");
    std::fs::create_dir(&scratch).expect("made");
    let mut demo = common::command(&["demo", "--input", input.to_str().expect("UTF-8"), "--json"]);
    let output = demo.env("TMPDIR", &scratch).output().expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(told["steps"].as_array().expect("a list").len(), 14, "{told}");
    common::schema::demand(&["demo", "--json"], &told.to_string());
    assert_eq!(std::fs::read_dir(&scratch).expect("a folder").count(), 0);
}
