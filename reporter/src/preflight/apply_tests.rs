//! Applying and reverting against a tree that fails, lies and dies on order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Default, Clone)]
struct Fake {
    values: BTreeMap<String, String>,
    refuses: Vec<String>,
    ignores: Vec<String>,
    /// Writes until the process dies; `None`: it lives.
    dies_after: Option<usize>,
}

impl Tree for Fake {
    fn read(&self, key: &str) -> io::Result<String> {
        self.values.get(key).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, key: &str, value: &str) -> io::Result<()> {
        if let Some(left) = &mut self.dies_after {
            assert!(*left > 0, "killed");
            *left -= 1;
        }
        if self.refuses.iter().any(|k| k == key) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if !self.ignores.iter().any(|k| k == key) {
            self.values.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

fn fake(values: &[(&str, &str)]) -> Fake {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Fake { values, ..Fake::default() }
}

fn at_least(key: &str, wanted: &str) -> Change {
    Change {
        key: key.to_owned(),
        wanted: wanted.to_owned(),
        rule: Rule::AtLeast,
        scope: Scope::Namespace,
    }
}

fn here(network: &str) -> Here {
    Here { boot: "boot-1".to_owned(), network: network.to_owned() }
}

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(dir.path()).unwrap()
}

#[test]
fn values_are_written_read_back_and_restored_to_the_letter() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let before = fake(&[("a", "1\t2\t3"), ("b", "9"), ("list", "")]);
    let mut tree = before.clone();
    let mut changes = vec![at_least("a", "2 2 2"), at_least("b", "5"), at_least("c", "1")];
    changes.push(Change { rule: Rule::Contains, ..at_least("list", "80,90") });
    let done = apply(&mut tree, &store, &here("n"), &changes).unwrap();
    let of = |key: &str| done.iter().find(|(k, _)| k == key).unwrap().1.clone();
    assert_eq!(of("a"), Outcome::Written { before: "1 2 3".into(), after: "2 2 3".into() });
    assert_eq!(of("b"), Outcome::Fine { value: "9".into() });
    assert_eq!(of("c"), Outcome::Absent);
    assert_eq!(tree.values["list"], "80,90");
    let done = revert(&mut tree, &store, &here("n")).unwrap();
    assert!(done.iter().all(|(_, o)| o.good()));
    assert_eq!(tree.values, before.values);
    assert!(matches!(revert(&mut tree, &store, &here("n")), Err(ApplyError::Nothing(_))));
}

#[test]
fn a_write_that_does_not_take_is_not_called_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = fake(&[("a", "1"), ("b", "1")]);
    tree.ignores = vec!["a".to_owned()];
    tree.refuses = vec!["b".to_owned()];
    let changes = [at_least("a", "5"), at_least("b", "5")];
    let done = apply(&mut tree, &store(&dir), &here("n"), &changes).unwrap();
    assert_eq!(done[0].1, Outcome::NotTaken { wanted: "5".into(), after: "1".into() });
    assert!(matches!(&done[1].1, Outcome::Refused { error } if error.contains("denied")));
    assert!(done.iter().all(|(_, o)| !o.good()));
}

#[test]
fn a_second_apply_keeps_the_first_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let mut tree = fake(&[("a", "1"), ("b", "1")]);
    apply(&mut tree, &store, &here("n"), &[at_least("a", "5")]).unwrap();
    apply(&mut tree, &store, &here("n"), &[at_least("a", "50"), at_least("b", "7")]).unwrap();
    assert_eq!(tree.values["a"], "50");
    revert(&mut tree, &store, &here("n")).unwrap();
    assert_eq!((tree.values["a"].as_str(), tree.values["b"].as_str()), ("1", "1"));
}

#[test]
fn what_cannot_be_restored_stays_in_the_back_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let mut tree = fake(&[("a", "1"), ("b", "1")]);
    apply(&mut tree, &store, &here("n"), &[at_least("a", "5"), at_least("b", "5")]).unwrap();
    tree.refuses = vec!["a".to_owned()];
    let done = revert(&mut tree, &store, &here("n")).unwrap();
    assert_eq!(done.iter().filter(|(_, o)| o.good()).count(), 1);
    tree.refuses.clear();
    let done = revert(&mut tree, &store, &here("n")).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(tree.values["a"], "1");
}

#[test]
fn another_namespace_keeps_its_own_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let mut tree = fake(&[("net", "1"), ("global", "1")]);
    let global = Change { scope: Scope::Host, ..at_least("global", "5") };
    apply(&mut tree, &store, &here("one"), &[at_least("net", "5"), global.clone()]).unwrap();
    let error = apply(&mut tree, &store, &here("two"), &[global]).unwrap_err();
    assert!(error.to_string().contains("one"), "{error}");
    revert(&mut tree, &store, &here("two")).unwrap();
    assert_eq!((tree.values["net"].as_str(), tree.values["global"].as_str()), ("5", "1"));
    revert(&mut tree, &store, &here("one")).unwrap();
    assert_eq!(tree.values["net"], "1");
}

#[test]
fn a_back_up_of_an_earlier_boot_is_not_applied_to_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let mut tree = fake(&[("a", "1")]);
    apply(&mut tree, &store, &here("n"), &[at_least("a", "5")]).unwrap();
    let later = Here { boot: "boot-2".to_owned(), ..here("n") };
    assert!(matches!(revert(&mut tree, &store, &later), Err(ApplyError::Nothing(_))));
    tree.values.insert("a".to_owned(), "3".to_owned());
    apply(&mut tree, &store, &later, &[at_least("a", "9")]).unwrap();
    revert(&mut tree, &store, &later).unwrap();
    assert_eq!(tree.values["a"], "3");
}

#[test]
fn two_at_once_and_a_damaged_back_up_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(&dir);
    assert!(matches!(Store::open(dir.path()), Err(ApplyError::Busy(_))));
    fs::write(first.path(), "{\"version\":1,").unwrap();
    let mut tree = fake(&[("a", "1")]);
    let error = apply(&mut tree, &first, &here("n"), &[at_least("a", "5")]).unwrap_err();
    assert!(matches!(error, ApplyError::Damaged { .. }));
    assert_eq!(tree.values["a"], "1");
    fs::write(first.path(), r#"{"version":9,"boot":"","network":"","entries":[]}"#).unwrap();
    assert!(revert(&mut tree, &first, &here("n")).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn without_a_place_for_the_back_up_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    fs::remove_dir_all(dir.path()).unwrap();
    let mut tree = fake(&[("a", "1")]);
    assert!(apply(&mut tree, &store, &here("n"), &[at_least("a", "5")]).is_err());
    assert_eq!(tree.values["a"], "1");
}

proptest! {
    /// The process may die before any of its writes, in apply or in revert, any number of times:
    /// a revert that completes ends where everything began.
    #[test]
    fn a_crash_anywhere_reverts_exactly(
        values in proptest::collection::vec((0u64..50, 0u64..50), 1..8),
        deaths in proptest::collection::vec((any::<bool>(), 0usize..9), 0..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Fake::default();
        let mut changes = Vec::new();
        for (i, (before, wanted)) in values.iter().enumerate() {
            tree.values.insert(format!("k{i}"), format!("{before}\t7"));
            changes.push(at_least(&format!("k{i}"), &format!("{wanted} 3")));
        }
        let first = tree.values.clone();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for (applies, at) in deaths {
            tree.dies_after = Some(at);
            let store = store(&dir);
            let step = std::panic::AssertUnwindSafe(|| {
                if applies {
                    apply(&mut tree, &store, &here("n"), &changes).map(|_| ())
                } else {
                    revert(&mut tree, &store, &here("n")).map(|_| ())
                }
            });
            let _ = std::panic::catch_unwind(step);
        }
        std::panic::set_hook(hook);
        tree.dies_after = None;
        match revert(&mut tree, &store(&dir), &here("n")) {
            Ok(done) => prop_assert!(done.iter().all(|(_, o)| o.good())),
            Err(e) => prop_assert!(matches!(e, ApplyError::Nothing(_))),
        }
        prop_assert_eq!(tree.values, first);
    }
}
