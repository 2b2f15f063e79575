//! Workloads that opted in by annotation.

use serde_json::{Value, json};

use crate::world::*;

#[test]
fn a_created_deployment_gets_exactly_what_it_lacks() {
    let mut asked = deployment(redis(json!({"replicas": "3", "session-password-secret": "redis/password"})));
    asked["spec"]["template"]["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    let mut expected = asked.clone();
    expected["metadata"]["annotations"]["berth.dev/injected-env"] =
        json!("app/THV_MCPSERVER_GENERATION,app/THV_SESSION_REDIS_PASSWORD");
    expected["spec"]["replicas"] = json!(3);
    let template = &mut expected["spec"]["template"];
    template["metadata"]["annotations"] = json!({STAMP: "1"});
    template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let env = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.push(password("redis", "password"));
    env.push(generation_env());

    let world = World::default();
    let written = world.create(&asked);
    assert_eq!(written.warnings(), Vec::<String>::new());
    let stored = written.stored();
    assert_eq!(stored, expected);
    // The same manifest once more, as `kubectl replace` sends it, changes nothing.
    assert_eq!(world.update(&stored, &asked).stored(), stored);
    // Nor does the stored object itself: not one operation.
    let again = world.update(&stored, &stored);
    assert_eq!(again.mutation.patch(), []);
}

#[test]
fn one_operation_for_one_change() {
    let world = World::default();
    let stored = world.create(&deployment(opted_in(json!({"replicas": "2"})))).object;
    let mut grown = stored.clone();
    grown["metadata"]["annotations"]["berth.dev/replicas"] = json!("4");
    let patch = world.update(&stored, &grown).mutation.patch().to_vec();
    assert_eq!(serde_json::to_value(patch).unwrap(), json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]));
}

#[test]
fn who_did_not_opt_in_is_left_alone() {
    let world = World::default();
    for annotations in [json!({}), json!({"berth.dev/inject": "disabled", "berth.dev/replicas": "3"}), Value::Null] {
        let written = world.create(&deployment(annotations));
        assert_eq!(written.mutation.patch(), []);
        assert!(written.validation.is_allowed());
    }
}

#[test]
fn replicas_are_set_on_create_and_left_alone_without_a_policy() {
    let world = World::default();
    for (annotation, wanted) in [(None, 5), (Some("0"), 0), (Some("1"), 1), (Some("3"), 3)] {
        let mut object = deployment(redis(annotation.map_or(json!({}), |n| json!({ "replicas": n }))));
        object["spec"]["replicas"] = json!(5);
        assert_eq!(world.create(&object).stored()["spec"]["replicas"], json!(wanted), "{annotation:?}");
    }
}

#[test]
fn an_autoscaler_is_never_undone() {
    let world = World::default();
    for annotation in ["0", "1", "3"] {
        let manifest = deployment(redis(json!({ "replicas": annotation })));
        let mut live = world.create(&manifest).stored();
        live["spec"]["replicas"] = json!(5);
        // A replace that omits replicas arrives as 1; an unrelated update carries the live count.
        let replaced = world.update(&live, &manifest);
        assert!(replaced.warnings()[0].contains("kubectl scale"), "{:?}", replaced.warnings());
        assert!(replaced.warnings()[0].contains("berth.dev/replicas"));
        assert_eq!(replaced.stored()["spec"]["replicas"], json!(5));
        let mut labelled = live.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(world.update(&live, &labelled).mutation.patch(), []);
        // A change of the policy is followed.
        let mut changed = live.clone();
        changed["metadata"]["annotations"]["berth.dev/replicas"] = json!("7");
        let changed = world.update(&live, &changed);
        assert_eq!(changed.warnings(), Vec::<String>::new());
        assert_eq!(changed.stored()["spec"]["replicas"], json!(7));
    }
}

#[test]
fn a_policy_without_replicas_never_touches_the_count() {
    let world = World::default();
    let live = world.create(&deployment(redis(json!({})))).stored();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(4);
    assert_eq!(world.update(&live, &scaled).stored()["spec"]["replicas"], json!(4));
}

#[test]
fn a_rollback_keeps_the_live_count_and_gets_a_new_stamp() {
    let world = World::default();
    let first = world.create(&deployment(redis(json!({"replicas": "1"})))).stored();
    let mut second = first.clone();
    second["metadata"]["annotations"]["berth.dev/replicas"] = json!("4");
    second["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    let second = world.update(&first, &second).stored();
    assert_eq!((stamp(&second), &second["spec"]["replicas"]), (Some("2"), &json!(4)));
    // kubectl rollout undo: the old template and the old annotations, the live count.
    let mut undone = first.clone();
    undone["spec"]["replicas"] = json!(4);
    let undone = world.update(&second, &undone).stored();
    assert_eq!((stamp(&undone), &undone["spec"]["replicas"]), (Some("3"), &json!(4)));
    assert_eq!(undone["spec"]["template"]["spec"]["containers"][0]["image"], json!("app:1"));
    // Asked once more (reinvocation, after another webhook changed the object): the stamp is the new one by now, and it
    // is a rollback all the same.
    assert_eq!(world.update(&second, &undone).stored(), undone);
}

#[test]
fn the_stamp_counts_template_changes_and_nothing_else() {
    let world = World::default();
    let first = world.create(&deployment(redis(json!({})))).stored();
    assert_eq!(stamp(&first), Some("1"));
    let change = |live: &Value, path: &str, value: Value| {
        let mut new = live.clone();
        *new.pointer_mut(path).unwrap() = value;
        world.update(live, &new).stored()
    };
    let scaled = change(&first, "/spec/replicas", json!(3));
    assert_eq!(stamp(&scaled), Some("1"), "scaling restarts nothing");
    let second = change(&scaled, "/spec/template/spec/containers/0/image", json!("app:2"));
    assert_eq!(stamp(&second), Some("2"));
    let lowered =
        change(&second, "/spec/template/metadata/annotations/toolhive.stacklok.dev~1mcpserver-generation", json!("1"));
    assert_eq!(stamp(&lowered), Some("2"), "a user cannot lower it");
    for odd in ["-4", "x", "", "99999999999999999999999"] {
        let path = "/spec/template/metadata/annotations/toolhive.stacklok.dev~1mcpserver-generation";
        assert_eq!(stamp(&change(&second, path, json!(odd))), Some("2"), "{odd:?} counts as absent");
    }
}

#[test]
fn a_grace_period_is_the_policys_else_the_templates_else_30() {
    let world = World::default();
    let grace = |annotations: Value, own: Option<i64>| {
        let mut object = deployment(annotations);
        object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(own);
        world.create(&object).stored()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone()
    };
    assert_eq!(grace(opted_in(json!({})), Some(7)), json!(7));
    assert_eq!(grace(opted_in(json!({})), None), json!(30));
    assert_eq!(grace(opted_in(json!({"termination-grace-period-seconds": "90"})), Some(7)), json!(90));
    assert_eq!(grace(opted_in(json!({"termination-grace-period-seconds": "0"})), Some(7)), json!(0));
}

#[test]
fn the_password_is_a_reference_in_the_policys_container_and_nowhere_else() {
    let world = World::default();
    let mut object = deployment(redis(json!({"session-password-secret": "s/k", "container": "app"})));
    let spec = &mut object["spec"]["template"]["spec"];
    let own = password("own", "key");
    spec["containers"].as_array_mut().unwrap().push(json!({"name": "sidecar", "env": [own.clone()]}));
    spec["initContainers"] = json!([{"name": "init"}]);
    spec["containers"][0]["env"] = json!([
        {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"},
        {"name": "A", "value": "b"},
        {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter3"},
    ]);
    let written = world.create(&object);
    assert_eq!(written.warnings().len(), 1, "{:?}", written.warnings());
    assert!(!written.warnings()[0].contains("hunter"));
    let stored = written.stored();
    assert_eq!(env_of(&stored, 0, "THV_SESSION_REDIS_PASSWORD"), [password("s", "k")]);
    assert_eq!(
        stored["spec"]["template"]["spec"]["containers"][0]["env"][0],
        password("s", "k"),
        "where the first one stood"
    );
    assert_eq!(env_of(&stored, 1, "THV_SESSION_REDIS_PASSWORD"), [own]);
    assert_eq!(stored["spec"]["template"]["spec"]["initContainers"], json!([{"name": "init"}]));
}

#[test]
fn what_berth_added_goes_when_nobody_asks_for_it_any_more() {
    let world = World::default();
    let with = redis(json!({"session-password-secret": "s/k"}));
    let live = world.create(&deployment(with)).stored();

    let mut memory = live.clone();
    memory["metadata"]["annotations"]["berth.dev/session-provider"] = json!("memory");
    let memory = world.update(&live, &memory).stored();
    assert_eq!(env_of(&memory, 0, "THV_SESSION_REDIS_PASSWORD"), Vec::<Value>::new());
    assert_eq!(memory["metadata"]["annotations"]["berth.dev/injected-env"], json!("app/THV_MCPSERVER_GENERATION"));

    for opt_out in [Some("disabled"), None] {
        let mut out = live.clone();
        match opt_out {
            Some(text) => out["metadata"]["annotations"]["berth.dev/inject"] = json!(text),
            None => drop(out["metadata"]["annotations"].as_object_mut().unwrap().remove("berth.dev/inject")),
        }
        let out = world.update(&live, &out).stored();
        assert_eq!(out["spec"]["template"]["spec"]["containers"][0]["env"], json!([{"name": "A", "value": "b"}]));
        assert_eq!(out["metadata"]["annotations"].get("berth.dev/injected-env"), None);
        assert_eq!(world.update(&out, &out).mutation.patch(), []);
        assert_eq!(stamp(&out), Some("1"), "should it opt in again, the stamp must not fall");
    }
}

#[test]
fn a_users_own_reference_is_kept() {
    let world = World::default();
    // The same entry as Berth would write, written by the user: not recorded, so never removed.
    let mut object = deployment(redis(json!({"session-password-secret": "s/k"})));
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([password("s", "k")]);
    let live = world.create(&object).stored();
    assert_eq!(live["metadata"]["annotations"]["berth.dev/injected-env"], json!("app/THV_MCPSERVER_GENERATION"));
    let mut out = live.clone();
    out["metadata"]["annotations"]["berth.dev/inject"] = json!("disabled");
    let out = world.update(&live, &out).stored();
    assert_eq!(out["spec"]["template"]["spec"]["containers"][0]["env"], json!([password("s", "k")]));
    // With memory a user's own reference is nobody's business.
    let mut object = deployment(opted_in(json!({})));
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([password("own", "k")]);
    assert_eq!(env_of(&world.create(&object).stored(), 0, "THV_SESSION_REDIS_PASSWORD"), [password("own", "k")]);
    // An entry that its user changed since Berth added it stays when the policy stops asking.
    let live = world.create(&deployment(redis(json!({"session-password-secret": "s/k"})))).stored();
    let mut taken_over = live.clone();
    taken_over["metadata"]["annotations"]["berth.dev/session-provider"] = json!("memory");
    taken_over["spec"]["template"]["spec"]["containers"][0]["env"][1] = password("own", "k");
    let stored = world.update(&live, &taken_over).stored();
    assert_eq!(env_of(&stored, 0, "THV_SESSION_REDIS_PASSWORD"), [password("own", "k")]);
}

#[test]
fn env_follows_when_the_policy_names_another_container() {
    let world = World::default();
    let mut object = deployment(redis(json!({"session-password-secret": "s/k", "container": "app"})));
    object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "other"}));
    let live = world.create(&object).stored();
    let mut moved = live.clone();
    moved["metadata"]["annotations"]["berth.dev/container"] = json!("other");
    let moved = world.update(&live, &moved).stored();
    assert_eq!(env_of(&moved, 0, "THV_SESSION_REDIS_PASSWORD"), Vec::<Value>::new());
    assert_eq!(env_of(&moved, 1, "THV_SESSION_REDIS_PASSWORD"), [password("s", "k")]);
    assert_eq!(env_of(&moved, 1, "THV_MCPSERVER_GENERATION"), [generation_env()]);
}

#[test]
fn an_object_being_deleted_is_left_alone() {
    let world = World::default();
    let mut object = deployment(opted_in(json!({"replicas": "oops"})));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let written = world.update(&object, &object);
    assert_eq!(written.mutation.patch(), []);
    assert!(written.validation.is_allowed());
    // In a new object it is only a claim.
    object["metadata"]["annotations"]["berth.dev/replicas"] = json!("3");
    let claimed = world.create(&object);
    assert_eq!(claimed.object["spec"]["replicas"], json!(3));
    claimed.refusal();
}

#[test]
fn a_stateful_set_is_wired_alike_and_told_about_its_service() {
    let world = World::default();
    let wrong = world.create(&stateful_set(redis(json!({"replicas": "2"})), "web"));
    assert_eq!(wrong.warnings().len(), 1);
    assert!(wrong.warnings()[0].contains("mcp-web-headless"), "{:?}", wrong.warnings());
    let right = world.create(&stateful_set(redis(json!({"replicas": "2"})), "mcp-web-headless"));
    assert_eq!(right.warnings(), Vec::<String>::new());
    let stored = right.stored();
    assert_eq!(stored["spec"]["replicas"], json!(2));
    assert_eq!(env_of(&stored, 0, "THV_MCPSERVER_GENERATION"), [generation_env()]);
}

#[test]
fn an_owner_that_does_not_exist_leaves_annotations_to_decide() {
    let world = World::default();
    let orphan = owned(deployment(json!({})), "MCPServer", "toolhive");
    let written = world.create(&orphan);
    assert_eq!(written.mutation.patch(), []);
    assert!(written.validation.is_allowed());
    let mut annotated = orphan;
    annotated["metadata"]["annotations"] = opted_in(json!({}));
    assert_eq!(stamp(&world.create(&annotated).stored()), Some("1"));
}

#[test]
fn a_slip_in_an_annotations_name_is_a_warning() {
    let world = World::default();
    let written = world.create(&deployment(opted_in(json!({"replcas": "3"}))));
    assert_eq!(written.warnings().len(), 1, "{:?}", written.warnings());
    assert!(
        written.warnings()[0].contains("berth.dev/replcas") && written.warnings()[0].contains("berth.dev/replicas")
    );
    let mut resource = mcpserver(1, json!({"transport": "sse"}));
    resource["metadata"]["annotations"] =
        json!({"berth.dev/replicas": "3", "berth.dev/class": "berth", "other/x": "y"});
    let written = world.create(&resource);
    assert_eq!(written.warnings().len(), 1, "{:?}", written.warnings());
}
