//! Writes a large made-up run for people to look at; asked for by name only.

mod report_support;

#[test]
#[ignore = "writes a folder for people to look at, named by REPORT_LOOK_DIR"]
fn make_a_large_run_to_look_at() {
    let dir = std::env::var("REPORT_LOOK_DIR").expect("REPORT_LOOK_DIR names a folder");
    let dir = std::path::Path::new(&dir);
    report_support::write(dir, &report_support::large());
    reporter::report::write(dir).expect("reports");
}
