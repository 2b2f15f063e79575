//! Derived names.

use std::collections::{HashMap, HashSet};

use berth::controller::objects::names;
use proptest::prelude::*;

const SERVICES: [fn(&str) -> String; 3] = [names::proxy_service, names::headless_service, names::ready_service];
/// Everything that is called after a resource: kind of object, its name, the most that Kubernetes takes.
type Named = (&'static str, String, usize);

fn of_mcp_server(cr: &str) -> Vec<Named> {
    let mut all = vec![
        ("Deployment", names::deployment(cr), 63),
        ("StatefulSet", names::stateful_set(cr), 52),
        ("ConfigMap", names::run_config(cr), 253),
    ];
    all.extend(SERVICES.map(|name| ("Service", name(cr), 63)));
    all
}

fn of_virtual_mcp_server(cr: &str) -> Vec<Named> {
    vec![
        ("Deployment", names::deployment(cr), 63),
        ("Service", names::vmcp_service(cr), 63),
        ("ConfigMap", names::vmcp_config(cr), 253),
    ]
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn check(cr: &str) {
    for (kind, name, max) in of_mcp_server(cr).into_iter().chain(of_virtual_mcp_server(cr)) {
        assert!(name.len() <= max, "{kind} {name}");
        let valid = match kind {
            "Service" => is_label(&name) && name.starts_with(|c: char| c.is_ascii_lowercase()),
            "StatefulSet" | "Deployment" => is_label(&name),
            _ => name.split('.').all(is_label),
        };
        assert!(valid, "{kind} {name}");
    }
}

#[test]
fn usual_names_are_what_the_documentation_says() {
    let all: Vec<String> = of_mcp_server("foo").into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(all, ["foo", "foo", "foo-runconfig", "mcp-foo-proxy", "mcp-foo-headless", "mcp-foo"]);
    let all: Vec<String> = of_virtual_mcp_server("foo").into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(all, ["foo", "vmcp-foo", "foo-vmcp-config"]);
    // As long as can be.
    let long = "x".repeat(50);
    assert_eq!(names::headless_service(&long), format!("mcp-{long}-headless"));
    assert_eq!(names::stateful_set(&long), long);
}

#[test]
fn names_at_the_limit_are_cut_and_differ() {
    let long = |tail: &str| format!("{}{tail}", "x".repeat(250));
    for name in [
        long("abc"),
        long("abd"),
        "a.b".into(),
        "a-b".into(),
        "0".into(),
        "mcp-foo".into(),
        "x".repeat(51),
        "x".repeat(53),
    ] {
        check(&name);
    }
    assert_ne!(names::stateful_set(&long("abc")), names::stateful_set(&long("abd")));
    assert_ne!(names::stateful_set("a.b"), names::stateful_set("a-b"));
    // What a long name was cut to is a name that another resource could have.
    let cut = names::stateful_set(&long("abc"));
    assert_ne!(names::stateful_set(&cut), cut);
}

/// As pods of a ReplicaSet are called, and whatever has such a name for another reason.
#[test]
fn a_name_that_merely_looks_hashed_stays_as_it_is() {
    for name in ["web-7d9c5b8f6d", "a-b-c-7d9c5b8f6d", "bcdfghjklm", "mcp-bcdfghjklm", "0-2456789246"] {
        assert_eq!((names::deployment(name), names::stateful_set(name)), (name.to_owned(), name.to_owned()));
        assert_eq!(names::ready_service(name), format!("mcp-{name}"));
        assert_eq!(names::vmcp_service(name), format!("vmcp-{name}"));
    }
    // One that is another's gets a hash of its own, whatever that other is called.
    for other in ["a.b", "a.b-c.d", "a-b", "x-proxy", &"x".repeat(60), "x.".repeat(20).trim_end_matches('.')] {
        for name in [names::deployment, names::stateful_set, names::ready_service, names::vmcp_service] {
            let others = name(other);
            let taken = others.trim_start_matches("vmcp-").trim_start_matches("mcp-");
            assert!(taken == other || name(taken) != others, "{other}: {others}");
        }
    }
}

/// `mcp-foo-proxy` is the Service of foo's proxy; foo-proxy's pods need another.
#[test]
fn a_resource_does_not_take_the_name_of_anothers_service() {
    let names = ["foo", "foo-proxy", "foo-headless", "foo-proxy-proxy", "foo-proxy-headless"];
    let all: Vec<_> = names.iter().flat_map(|cr| SERVICES.map(|name| name(cr))).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{all:?}");
}

proptest! {
    #[test]
    fn any_name_gives_valid_ones(cr in "[a-z0-9]([-a-z0-9]{0,80}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,2}|\\PC{1,40}") {
        check(&cr);
    }

    #[test]
    fn different_resources_have_different_objects(
        mut crs in prop::collection::hash_set(
            "(a|b|x{41,64}|x{38,40}-{1,9}x{3}|mcp-a|a[.]b|a-b|a-b[.]c)(-proxy|-headless|-runconfig|-vmcp-config|-[bcd]{10}|){0,2}", 2..8
        )
    ) {
        // Names that are what another's object is called, and once more.
        for _ in 0..2 {
            let all: Vec<_> = crs.iter().flat_map(|cr| [of_mcp_server(cr), of_virtual_mcp_server(cr)].concat()).collect();
            for (_, name, _) in all {
                let bare = name.trim_start_matches("vmcp-").trim_start_matches("mcp-");
                crs.extend([name.clone(), bare.to_owned()]);
            }
        }
        // A Deployment of one kind may be called as one of the other: whoever comes second is told so.
        let all: Vec<_> = crs.iter().map(|cr| (cr, [of_mcp_server(cr), of_virtual_mcp_server(cr)])).collect();
        let mut owners: HashMap<(&str, &str), &str> = HashMap::new();
        for (cr, made) in &all {
            for (kind, name, _) in made.iter().flatten() {
                let other = if *kind == "Deployment" { None } else { owners.insert((kind, name), cr) };
                prop_assert!(other.is_none(), "{kind} {name} of {cr} and {other:?}");
            }
        }
        for one in 0..2 {
            let mut owners: HashMap<(&str, &str), &str> = HashMap::new();
            for (cr, made) in &all {
                for (kind, name, _) in &made[one] {
                    let other = owners.insert((kind, name), cr);
                    prop_assert!(other.is_none(), "{kind} {name} of {cr} and {other:?}");
                }
            }
        }
    }
}
