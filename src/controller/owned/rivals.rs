//! Fields that others wrote, and that ours cannot be beside.
//!
//! Who switches a field of ours to another of which there may be one (a reference to a value for the value, a probe by HTTP
//! for one by TCP, the source of a volume) or renames a port, leaves an apply nothing to set it back by: what others wrote
//! stays beside ours, and the API server refuses both. So what stands in the way is made ours first, by the managed fields
//! alone; the next apply, which does not have it, then takes it away and sets ours, in one. No template is ever stored
//! without either, and nothing of ours is left to another field manager.
//!
//! An apply is refused for mistakes of the resource, too, and then for nothing that others wrote. So theirs stands in the way
//! only where it excludes ours whatever else is there, or contradicts it by what both say; all else beside it stays theirs.

use serde_json::{Map, Value, json};

use super::FIELD_MANAGER;
use super::coverage::is_key_of;

/// The managed fields of an object with what stands in the way of ours made ours; nothing where nothing does.
///
/// `refused` are the fields that the API server named when it refused what was to be applied, as in
/// `spec.template.spec.containers[0].env[2].valueFrom`; only there is looked.
pub(in crate::controller) fn claim(live: &Value, applied: &Value, refused: &[String]) -> Option<Value> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let mut rivals = Vec::new();
    for entry in entries.iter().filter(|entry| !is_ours(entry)) {
        for field in refused {
            let field = without_indexes(field);
            let mut search = Search { path: Vec::new(), rivals: &mut rivals };
            search.descend(&entry["fieldsV1"], applied, live, &field.split('.').collect::<Vec<_>>());
        }
    }
    // What contradicts: only where nothing was switched.
    let switched = rivals.iter().any(|rival| rival.switched);
    let paths: Vec<_> = rivals.into_iter().filter(|rival| rival.switched == switched).map(|rival| rival.path).collect();
    if paths.is_empty() {
        return None;
    }
    let mut entries = entries.clone();
    for entry in entries.iter_mut().filter(|entry| !is_ours(entry)) {
        if let Some(fields) = entry.get_mut("fieldsV1") {
            paths.iter().for_each(|path| remove(fields, path));
        }
    }
    entries.retain(|entry| entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    let place = entries.iter().position(is_ours).unwrap_or_else(|| {
        entries.push(json!({
            "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": live["apiVersion"], "fieldsType": "FieldsV1",
        }));
        entries.len() - 1
    });
    let ours = entries.get_mut(place)?;
    paths.iter().for_each(|path| insert(&mut ours["fieldsV1"], path));
    Some(Value::Array(entries))
}

fn is_ours(entry: &Value) -> bool {
    entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply" && entry.get("subresource").is_none()
}

/// A field of another that may stand in the way of one of ours.
struct Rival {
    /// The keys that lead to it in a `fieldsV1`.
    path: Vec<String>,
    /// Whether one of ours is missing where it is; else it may well be beside ours, but for its value.
    switched: bool,
}

struct Search<'a> {
    path: Vec<String>,
    rivals: &'a mut Vec<Rival>,
}

impl Search<'_> {
    /// Follows the name of a field into an object, up to the first part of it whose fields depend on each other.
    fn descend(&mut self, fields: &Value, applied: &Value, live: &Value, to: &[&str]) {
        let Some((name, rest)) = to.split_first() else { return };
        let key = format!("f:{name}");
        let (Some(fields), Some(applied), Some(live)) = (fields.get(&key), applied.get(name), live.get(name)) else {
            return;
        };
        self.path.push(key);
        match *name {
            "spec" | "template" => self.descend(fields, applied, live, rest),
            "containers" | "initContainers" => {
                for (key, fields) in fields.as_object().into_iter().flatten() {
                    if let (Some(applied), Some(live)) = (part(applied, key), part(live, key)) {
                        self.path.push(key.clone());
                        self.descend(fields, applied, live, rest);
                        self.path.pop();
                    }
                }
            }
            // A label excludes no other.
            "metadata" => {}
            "resources" => self.compare_resources(fields, applied, live),
            "securityContext" => self.compare_security(fields, applied, live),
            _ => self.compare(fields, applied, live),
        }
        self.path.pop();
    }

    /// Looks for what was switched.
    fn compare(&mut self, fields: &Value, applied: &Value, live: &Value) {
        let Some(fields) = fields.as_object() else { return };
        let is_missing = applied.as_object().is_some_and(|ours| {
            ours.iter().any(|(name, ours)| excludes(&self.path, name, ours) && live.get(name).is_none())
        });
        let are_ports = self.path.last().is_some_and(|list| list == "f:ports");
        for (key, fields) in fields {
            let Some(theirs) = part(live, key) else { continue };
            let ours = part(applied, key);
            let switched = match key.strip_prefix("f:") {
                Some(name) => is_missing && excludes(&self.path, name, theirs),
                None => are_ports && renames(key, theirs, applied, live),
            };
            self.path.push(key.clone());
            match ours {
                Some(ours) => self.compare(fields, ours, theirs),
                None if switched => self.rivals.push(Rival { path: self.path.clone(), switched }),
                None => {}
            }
            self.path.pop();
        }
    }

    /// Takes limits of what we request, and requests of what we limit.
    fn compare_resources(&mut self, fields: &Value, applied: &Value, live: &Value) {
        for (theirs, ours) in [("limits", "requests"), ("requests", "limits")] {
            for name in applied[ours].as_object().into_iter().flat_map(Map::keys) {
                if applied[theirs].get(name).is_none() {
                    self.contradicts(fields, live, &[theirs, name]);
                }
            }
        }
    }

    /// Takes what the API server does not let be beside a security context of ours.
    fn compare_security(&mut self, fields: &Value, applied: &Value, live: &Value) {
        if applied["allowPrivilegeEscalation"] == false {
            if applied.get("privileged").is_none() && live["privileged"] == true {
                self.contradicts(fields, live, &["privileged"]);
            }
            let added = live.pointer("/capabilities/add").and_then(Value::as_array);
            let is_admin = added.is_some_and(|added| added.iter().any(|capability| capability == "CAP_SYS_ADMIN"));
            if is_admin && applied.pointer("/capabilities/add").is_none() {
                self.contradicts(fields, live, &["capabilities", "add"]);
            }
        }
        for profile in ["seccompProfile", "appArmorProfile"] {
            if applied[profile]["type"].as_str().is_some_and(|of| of != "Localhost") {
                self.contradicts(fields, live, &[profile, "localhostProfile"]);
            }
        }
    }

    /// Takes a field that may be beside ours with another value, if it is there and theirs.
    fn contradicts(&mut self, fields: &Value, live: &Value, names: &[&str]) {
        let keys: Vec<_> = names.iter().map(|name| format!("f:{name}")).collect();
        let is_theirs = keys.iter().try_fold(fields, |fields, key| fields.get(key)).is_some();
        if is_theirs && names.iter().try_fold(live, |live, name| live.get(name)).is_some() {
            self.rivals.push(Rival { path: [self.path.as_slice(), &keys].concat(), switched: false });
        }
    }
}

/// Whether a field is one of those of which there may be one in a place. What is beside them there (the name of a volume, a
/// threshold of a probe) excludes nothing.
fn excludes(place: &[String], name: &str, value: &Value) -> bool {
    match place {
        [.., list, _] if list == "f:env" => matches!(name, "value" | "valueFrom") && value != "",
        [.., list, _] if list == "f:volumes" => value.is_object(),
        [.., field] => {
            let probes = ["f:livenessProbe", "f:readinessProbe", "f:startupProbe", "f:preStop", "f:postStart"];
            (field == "f:valueFrom" || probes.contains(&field.as_str())) && value.is_object()
        }
        [] => false,
    }
}

/// Whether an item of a list has the name of one of ours that is missing, under another key.
fn renames(key: &str, theirs: &Value, applied: &Value, live: &Value) -> bool {
    let keys = key.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok());
    let Some(keys) = keys.filter(|_| theirs.get("name").is_some()) else { return false };
    let named = applied.as_array().into_iter().flatten().find(|ours| ours.get("name") == theirs.get("name"));
    named.is_some_and(|ours| {
        let same = |item: &Value| keys.keys().all(|key| ours.get(key).is_none_or(|value| item.get(key) == Some(value)));
        !live.as_array().into_iter().flatten().any(same)
    })
}

/// What a key of a `fieldsV1` stands for.
fn part<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match key.strip_prefix("f:") {
        Some(name) => value.get(name),
        None => value.as_array()?.iter().find(|item| is_key_of(key, item)),
    }
}

fn without_indexes(field: &str) -> String {
    let mut depth = 0_usize;
    let outside = field.chars().filter(|char| {
        match char {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    });
    outside.collect()
}

/// Removes a field, and what holds nothing else then.
fn remove(fields: &mut Value, path: &[String]) {
    let (Some((key, rest)), Some(fields)) = (path.split_first(), fields.as_object_mut()) else { return };
    let Some(inner) = fields.get_mut(key) else { return };
    if !rest.is_empty() {
        let was_empty = is_empty(inner);
        remove(inner, rest);
        if was_empty || !is_empty(inner) {
            return;
        }
    }
    fields.remove(key);
}

fn insert(fields: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    if fields.is_null() {
        *fields = json!({});
    }
    let Some(fields) = fields.as_object_mut() else { return };
    match fields.get_mut(key) {
        // It is ours itself, and stays so beside what is in it.
        Some(inner) if is_empty(inner) && !rest.is_empty() => *inner = json!({".": {}}),
        Some(_) => {}
        None => drop(fields.insert(key.clone(), json!({}))),
    }
    if let Some(inner) = fields.get_mut(key) {
        insert(inner, rest);
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MCP: &str = "k:{\"name\":\"mcp\"}";

    /// Another's entry of managed fields, and ours.
    fn managed(theirs: &Value, ours: &Value) -> Value {
        json!([
            {"manager": "berth", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": ours},
            {"manager": "berth", "operation": "Apply", "subresource": "scale", "fieldsV1": {"f:x": {}}},
            {"manager": "kubectl-set", "operation": "Update", "fieldsV1": theirs},
        ])
    }

    fn of_pod(fields: Value) -> Value {
        json!({"spec": {"template": {"spec": fields}}})
    }

    fn fields_of_pod(fields: Value) -> Value {
        json!({"f:spec": {"f:template": {"f:spec": fields}}})
    }

    /// The paths that are claimed of what another wrote.
    fn claimed(live: Value, applied: Value, theirs: Value, refused: &str) -> Option<(Value, Value)> {
        let (mut live, applied) = (of_pod(live), of_pod(applied));
        live["metadata"] = json!({"managedFields": managed(&fields_of_pod(theirs), &json!({"f:data": {}}))});
        let claimed = claim(&live, &applied, &[format!("spec.template.spec.{refused}")])?;
        let fields = |manager: &str, at: &str| {
            let entries = claimed.as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["manager"] == manager).unwrap_or(&Value::Null);
            entry["fieldsV1"].pointer(at).cloned().unwrap_or_default()
        };
        Some((fields("berth", "/f:spec/f:template/f:spec"), fields("kubectl-set", "/f:spec/f:template/f:spec")))
    }

    #[test]
    fn a_value_in_place_of_a_reference() {
        let reference = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let (ours, theirs) = claimed(
            json!({"containers": [{"name": "mcp", "image": "i",
                "env": [{"name": "KEY", "value": "x"}, {"name": "THEIRS", "value": "1"}]}, {"name": "beside"}]}),
            json!({"containers": [{"name": "mcp", "image": "i", "env": [{"name": "KEY", "valueFrom": reference}]}]}),
            json!({"f:containers": {
                MCP: {"f:env": {
                    "k:{\"name\":\"KEY\"}": {"f:value": {}},
                    "k:{\"name\":\"THEIRS\"}": {".": {}, "f:name": {}, "f:value": {}},
                }, "f:tty": {}},
                "k:{\"name\":\"beside\"}": {".": {}, "f:name": {}},
            }}),
            "containers[0].env[3].valueFrom",
        )
        .unwrap();
        assert_eq!(ours, json!({"f:containers": {MCP: {"f:env": {"k:{\"name\":\"KEY\"}": {"f:value": {}}}}}}));
        assert_eq!(
            theirs,
            json!({"f:containers": {
                MCP: {"f:env": {"k:{\"name\":\"THEIRS\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:tty": {}},
                "k:{\"name\":\"beside\"}": {".": {}, "f:name": {}},
            }})
        );
    }

    #[test]
    fn one_kind_of_probe_in_place_of_another_without_the_thresholds_beside_it() {
        let (ours, theirs) = claimed(
            json!({"containers": [{"name": "mcp", "livenessProbe": {"exec": {"command": ["x"]}, "failureThreshold": 7}}]}),
            json!({"containers": [{"name": "mcp", "livenessProbe": {"httpGet": {"port": 1}}}]}),
            json!({"f:containers": {MCP: {"f:livenessProbe": {"f:exec": {"f:command": {}}, "f:failureThreshold": {}}}}}),
            "containers[0].livenessProbe.httpGet",
        )
        .unwrap();
        assert_eq!(ours, json!({"f:containers": {MCP: {"f:livenessProbe": {"f:exec": {}}}}}));
        assert_eq!(theirs, json!({"f:containers": {MCP: {"f:livenessProbe": {"f:failureThreshold": {}}}}}));
    }

    #[test]
    fn a_port_of_the_same_name_under_another_number() {
        let item = |number: u16| json!({"name": "http", "port": number, "protocol": "TCP"});
        let key = |number: u16| format!("k:{{\"port\":{number},\"protocol\":\"TCP\"}}");
        let others = json!({"name": "others", "port": 5, "protocol": "TCP"});
        let mut live = json!({"apiVersion": "v1", "spec": {"ports": [item(1234), others]}});
        let theirs = json!({"f:spec": {"f:ports": {key(1234): {"f:port": {}}, key(5): {"f:port": {}}}}});
        live["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Update", "fieldsV1": theirs}]);
        let claimed =
            claim(&live, &json!({"spec": {"ports": [item(8080)]}}), &["spec.ports[1].name".to_owned()]).unwrap();
        assert_eq!(claimed[0]["fieldsV1"], json!({"f:spec": {"f:ports": {key(5): {"f:port": {}}}}}));
        assert_eq!(
            claimed[1],
            json!({"manager": "berth", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:ports": {key(1234): {}}}}})
        );
        // Ours is there: another of its name is no rename.
        live["spec"]["ports"] = json!([item(1234), item(8080)]);
        assert_eq!(claim(&live, &json!({"spec": {"ports": [item(8080)]}}), &["spec.ports[1].name".to_owned()]), None);
    }

    /// The same in a container; `None` where nothing is claimed of it.
    fn claimed_of_container(live: Value, applied: Value, theirs: Value, refused: &str) -> Option<(Value, Value)> {
        let (mut live, mut applied) = (live, applied);
        (live["name"], applied["name"]) = (json!("mcp"), json!("mcp"));
        let refused = format!("containers[0].{refused}");
        let (live, applied) = (json!({"containers": [live]}), json!({"containers": [applied]}));
        let (ours, theirs) = claimed(live, applied, json!({"f:containers": {MCP: theirs}}), &refused)?;
        Some((ours["f:containers"][MCP].clone(), theirs["f:containers"][MCP].clone()))
    }

    #[test]
    fn a_limit_of_what_is_requested_and_no_other() {
        let live = json!({"resources": {
            "requests": {"cpu": "5m", "memory": "1Mi"}, "limits": {"cpu": "10m", "ephemeral-storage": "1Gi"}}});
        let applied = json!({"resources": {"requests": {"cpu": "50m"}}});
        let fields = json!({"f:resources": {
            "f:requests": {"f:cpu": {}, "f:memory": {}}, "f:limits": {"f:cpu": {}, "f:ephemeral-storage": {}}}});
        let of = |applied: &Value, refused: &str| {
            claimed_of_container(live.clone(), applied.clone(), fields.clone(), refused)
        };
        let (ours, theirs) = of(&applied, "resources.requests").unwrap();
        assert_eq!(ours, json!({"f:resources": {"f:limits": {"f:cpu": {}}}}));
        assert_eq!(
            theirs,
            json!({"f:resources": {"f:requests": {"f:cpu": {}, "f:memory": {}}, "f:limits": {"f:ephemeral-storage": {}}}})
        );
        let limit = json!({"resources": {"limits": {"memory": "1Ki"}}});
        let (ours, _) = of(&limit, "resources.requests").unwrap();
        assert_eq!(ours, json!({"f:resources": {"f:requests": {"f:memory": {}}}}));
        let both = json!({"resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "5m"}}});
        assert_eq!(of(&both, "resources.requests"), None, "ours contradict each other");
        assert_eq!(of(&applied, "image"), None, "another cause");
    }

    #[test]
    fn what_a_security_context_cannot_have_beside_ours() {
        let live = json!({"securityContext": {
            "allowPrivilegeEscalation": true, "privileged": true, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["CAP_SYS_ADMIN"], "drop": ["ALL"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p"},
        }});
        let fields = json!({"f:securityContext": {
            "f:allowPrivilegeEscalation": {}, "f:privileged": {}, "f:readOnlyRootFilesystem": {},
            "f:capabilities": {"f:add": {}}, "f:seccompProfile": {"f:type": {}, "f:localhostProfile": {}},
        }});
        let of = |applied: Value| {
            let applied = json!({"securityContext": applied});
            let claimed = claimed_of_container(live.clone(), applied, fields.clone(), "securityContext.runAsUser");
            claimed.map(|(ours, _)| ours["f:securityContext"].clone())
        };
        let escalation = of(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}));
        assert_eq!(escalation, Some(json!({"f:privileged": {}, "f:capabilities": {"f:add": {}}})));
        let profile = of(json!({"seccompProfile": {"type": "RuntimeDefault"}}));
        assert_eq!(profile, Some(json!({"f:seccompProfile": {"f:localhostProfile": {}}})));
        for mistake in [
            json!({"runAsUser": -5}),
            json!({"allowPrivilegeEscalation": true, "runAsUser": -5}),
            json!({"seccompProfile": {"type": "Localhost"}}),
            json!({"allowPrivilegeEscalation": false, "privileged": true, "capabilities": {"add": ["X"]}}),
        ] {
            assert_eq!(of(mistake.clone()), None, "{mistake}");
        }
    }

    #[test]
    fn a_mistake_of_the_resource_takes_nothing_from_others() {
        let key = |path: &str| format!("k:{{\"mountPath\":\"{path}\"}}");
        let live = json!({
            "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": true}, {"name": "a", "mountPath": "/theirs"}],
            "livenessProbe": {"httpGet": {"port": 8080}, "failureThreshold": 7},
            "lifecycle": {"postStart": {"exec": {"command": ["x"]}}},
            "env": [{"name": "EMPTY", "valueFrom": {}}, {"name": "NONE", "value": "x"}],
            "ports": [{"name": "theirs", "containerPort": 5}],
            "tty": true,
        });
        let theirs = json!({
            "f:volumeMounts": {key("/a"): {"f:readOnly": {}}, key("/theirs"): {".": {}, "f:mountPath": {}, "f:name": {}}},
            "f:livenessProbe": {"f:failureThreshold": {}},
            "f:lifecycle": {"f:postStart": {"f:exec": {"f:command": {}}}},
            "f:env": {"k:{\"name\":\"EMPTY\"}": {"f:valueFrom": {}}, "k:{\"name\":\"NONE\"}": {"f:value": {}}},
            "f:ports": {"k:{\"containerPort\":5}": {"f:name": {}, "f:containerPort": {}}},
            "f:tty": {},
        });
        let mounts = |more: Value| json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}, more]});
        for (mistake, refused) in [
            (mounts(json!({"name": "gone", "mountPath": "/gone"})), "volumeMounts[2].name"),
            // A volume that another mounts elsewhere.
            (mounts(json!({"name": "a", "mountPath": "a:b"})), "volumeMounts[2].mountPath"),
            (json!({"volumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "../x"}]}), "volumeMounts[0].subPath"),
            (json!({"livenessProbe": {"httpGet": {"port": 99999}}}), "livenessProbe.httpGet.port"),
            // Ours alone switches.
            (json!({"livenessProbe": {"tcpSocket": {"port": 99999}}}), "livenessProbe.tcpSocket.port"),
            (
                json!({"livenessProbe": {"httpGet": {"port": 8080}, "terminationGracePeriodSeconds": 0}}),
                "livenessProbe.terminationGracePeriodSeconds",
            ),
            (json!({"lifecycle": {"preStop": {"exec": {}}}}), "lifecycle.preStop.exec.command"),
            (json!({"env": [{"name": "EMPTY", "value": ""}, {"name": "NONE"}, {"name": "="}]}), "env[2].name"),
            (json!({"ports": [{"name": "ours", "containerPort": 99999}]}), "ports[1].containerPort"),
            (json!({"tty": 1}), "tty"),
        ] {
            let claimed = claimed_of_container(live.clone(), mistake.clone(), theirs.clone(), refused);
            assert_eq!(claimed, None, "{mistake}");
        }
    }

    #[test]
    fn labels_and_what_is_missing_are_never_claimed() {
        let labels = |labels: Value| json!({"spec": {"template": {"metadata": {"labels": labels}}}});
        let mut live = labels(json!({"theirs": "x"}));
        let theirs = json!({"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:theirs": {}, "f:gone": {}}}}}});
        live["metadata"]["managedFields"] = managed(&theirs, &json!({}));
        for refused in ["spec.template.metadata.labels", "spec.template.metadata.labels[a.b/c]", "", "spec", "[", "."] {
            assert_eq!(claim(&live, &labels(json!({"app": "x"})), &[refused.to_owned()]), None, "{refused}");
        }
    }

    #[test]
    fn what_is_ours_as_a_whole_stays_so_beside_a_part_of_it() {
        let mut fields = json!({"f:volumes": {"k:{\"name\":\"v\"}": {"f:emptyDir": {}}}});
        insert(&mut fields, &["f:volumes", "k:{\"name\":\"v\"}", "f:emptyDir", "f:medium"].map(str::to_owned));
        assert_eq!(fields, json!({"f:volumes": {"k:{\"name\":\"v\"}": {"f:emptyDir": {".": {}, "f:medium": {}}}}}));
    }

    fn any_fields() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!({})), Just(json!([])), Just(Value::Null), Just(json!(1))];
        leaf.prop_recursive(6, 40, 4, |inner| {
            let key = prop::sample::select(vec![
                "spec",
                "template",
                "containers",
                "env",
                "ports",
                "resources",
                "limits",
                "requests",
                "securityContext",
                "livenessProbe",
                "name",
                "f:spec",
                "f:template",
                "f:containers",
                "f:env",
                "f:ports",
                "f:resources",
                "f:limits",
                "f:securityContext",
                "f:livenessProbe",
                "f:value",
                "k:{\"name\":\"a\"}",
                "k:{",
                "k:[]",
                "v:1",
                ".",
            ]);
            let map = prop::collection::btree_map(key.prop_map(str::to_owned), inner.clone(), 0..5);
            prop_oneof![map.prop_map(|map| json!(map)), prop::collection::vec(inner, 0..3).prop_map(Value::Array)]
        })
    }

    proptest! {
        #[test]
        fn anything_is_read(live in any_fields(), applied in any_fields(), fields in any_fields(), refused in "(spec|template|containers|env|resources|securityContext|livenessProbe|\\.|\\[|\\]|0){0,9}") {
            let mut live = live;
            if live.is_object() {
                live["metadata"] = json!({"managedFields": managed(&fields, &fields)});
                let _ = claim(&live, &applied, std::slice::from_ref(&refused));
                live["metadata"]["managedFields"] = fields;
            }
            let _ = claim(&live, &applied, &[refused]);
        }
    }
}
