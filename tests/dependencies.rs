//! The policy on dependencies: which licences, and from where.

#![expect(clippy::expect_used, reason = "clippy.toml lets functions marked as tests assert, not their helpers")]

use std::process::Command;

use serde_json::Value;

/// Licences that may be in a binary under Apache-2.0, each with what it asks for.
const ALLOWED: &[(&str, &str)] = &[
    ("Apache-2.0", "Berth's own"),
    ("Apache-2.0 WITH LLVM-exception", "asks for less than Apache-2.0"),
    ("BSL-1.0", "keep the notice, in source form only"),
    ("BSD-3-Clause", "keep the notice; no endorsement"),
    ("CDLA-Permissive-2.0", "for data: keep the text of the agreement"),
    ("ISC", "keep the notice"),
    ("MIT", "keep the notice"),
    ("Unicode-3.0", "for Unicode's data: keep the notice"),
    ("Zlib", "do not claim to have written it"),
];

#[test]
fn every_dependency_has_an_allowed_licence() {
    let refused: Vec<_> = packages()
        .iter()
        .filter_map(|package| match package["license"].as_str() {
            Some(licence) if is_allowed(licence) => None,
            licence => {
                Some(format!("{} {}: {}", package["name"], package["version"], licence.unwrap_or("none stated")))
            }
        })
        .collect();
    assert!(
        refused.is_empty(),
        "licences that this policy does not allow; replace the crate, or add the licence with a reason to ALLOWED:\n{}",
        refused.join("\n")
    );
}

#[test]
fn every_licence_of_the_policy_is_in_use() {
    let stated: Vec<_> =
        packages().iter().filter_map(|package| package["license"].as_str().map(str::to_owned)).collect();
    let unused: Vec<_> =
        ALLOWED.iter().map(|(name, _)| name).filter(|name| !stated.iter().any(|all| all.contains(**name))).collect();
    assert!(unused.is_empty(), "no dependency has these licences any more; take them out of ALLOWED: {unused:?}");
}

#[test]
fn every_dependency_is_published() {
    // A commit of somebody's repository can vanish, and is not audited with the rest.
    let elsewhere: Vec<_> = packages()
        .iter()
        .filter(|package| package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")))
        .map(|package| format!("{} from {}", package["name"], package["source"]))
        .collect();
    assert!(elsewhere.is_empty(), "depend on published versions instead of: {elsewhere:?}");
}

#[test]
fn licence_expressions_are_read_by_their_precedence() {
    for allowed in
        ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "GPL-3.0 OR GPL-3.0 AND MIT",
        "MIT WITH strings",
        "",
        "(MIT",
        "MIT ISC",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

/// Whether an SPDX expression leaves a way to use the package by allowed licences alone. Older
/// packages write `/` for OR. What cannot be read is not allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut rest: Vec<_> = spaced.split_whitespace().rev().collect();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

/// `A OR B …`; `rest` holds the words to read, the next one last.
fn any_of(rest: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = all_of(rest)?;
    while rest.pop_if(|word| *word == "OR").is_some() {
        allowed |= all_of(rest)?;
    }
    Some(allowed)
}

/// `A AND B …`, which binds tighter than OR.
fn all_of(rest: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = one(rest)?;
    while rest.pop_if(|word| *word == "AND").is_some() {
        allowed &= one(rest)?;
    }
    Some(allowed)
}

fn one(rest: &mut Vec<&str>) -> Option<bool> {
    let mut name = rest.pop()?.to_owned();
    if name == "(" {
        let allowed = any_of(rest);
        return rest.pop_if(|word| *word == ")").and(allowed);
    }
    if rest.pop_if(|word| *word == "WITH").is_some() {
        name = format!("{name} WITH {}", rest.pop()?);
    }
    Some(ALLOWED.iter().any(|(allowed, _)| *allowed == name))
}

/// All packages that any target or feature may pull in, as Cargo tells.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}
