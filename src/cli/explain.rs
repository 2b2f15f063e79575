//! `berth explain`: which policy applies to an object, where its values come from, and what follows.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::files::{Context, read_all};
use super::{CliError, Outcome, Output};
use crate::admission::Answer;
use crate::cluster::Cluster;
use crate::manifest::{Source, parse};
use crate::policy::names::{TOOLHIVE_GROUP, TOOLHIVE_VERSIONS};
use crate::policy::{CrKind, Metadata, WorkloadKind};
use crate::preview::{Change, Explanation, Origin, Preview, Rule, Setting, Standing, Writes};

/// Say which policy applies to an object, where each value comes from, and what follows.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # everything of Berth's in some manifests
  berth explain -f deploy/

  # one object of them
  berth explain -f deploy/ deployment/web

  # one object of the cluster of KUBECONFIG
  berth explain deployment/web -n shop")]
pub(super) struct Args {
    /// The object: deployment/NAME, statefulset/NAME, mcpserver/NAME or virtualmcpserver/NAME
    #[arg(value_name = "TYPE/NAME", required_unless_present = "filename", value_parser = Wanted::parse)]
    object: Option<Wanted>,

    /// A manifest, a directory of them, or - for standard input, in place of the cluster; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,

    #[command(flatten)]
    context: Context,

    /// Print objects of this form, rather than text
    #[arg(short, long, value_enum)]
    output: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Yaml,
    Json,
}

/// The object that somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Workload(WorkloadKind),
    CustomResource(CrKind),
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or("write TYPE/NAME, as in deployment/web")?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" => Kind::Workload(WorkloadKind::Deployment),
            "statefulset" | "statefulsets" | "sts" => Kind::Workload(WorkloadKind::StatefulSet),
            "mcpserver" | "mcpservers" => Kind::CustomResource(CrKind::McpServer),
            "virtualmcpserver" | "virtualmcpservers" => Kind::CustomResource(CrKind::VirtualMcpServer),
            other => return Err(format!("{other:?} is none of deployment, statefulset, mcpserver, virtualmcpserver")),
        };
        Ok(Self { kind, name: name.to_owned() })
    }

    fn is(&self, explanation: &Explanation) -> bool {
        explanation.kind == self.kind.as_str() && explanation.name == self.name
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::CustomResource(kind) => kind.as_str(),
        }
    }
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let (sources, namespace, writes) = match self.filename.as_slice() {
            [] => {
                let (objects, namespace) = self.stored()?;
                (objects, namespace, Writes::Update)
            }
            files => (read_all(files)?, self.context.namespace().to_owned(), Writes::Create),
        };
        let preview = Preview::new(&sources, &namespace, &self.context.settings(), writes)?;
        let explained: Vec<_> = preview
            .judged
            .iter()
            .map(|judged| {
                let place = judged.source.path.as_ref();
                let line = judged.document.line_of(judged.object, "").0;
                (preview.explain(judged), place.map(|path| format!("{}:{line}", path.display())))
            })
            .filter(|(explanation, _)| self.object.as_ref().is_none_or(|wanted| wanted.is(explanation)))
            .collect();
        if let (Some(wanted), true) = (&self.object, explained.is_empty()) {
            let what = format!("{}/{} is not in the input", wanted.kind.as_str(), wanted.name);
            return Err(
                CliError::new(what).help("leave -f out to look in the cluster, or TYPE/NAME to see what there is")
            );
        }
        match self.output {
            None => text(out, &explained)?,
            Some(form) => machine(out, &explained, form)?,
        }
        let refused = explained.iter().any(|(explanation, _)| {
            !explanation.refused.is_empty() || explanation.remarks.iter().any(|remark| remark.code.is_some())
        });
        Ok(if refused { Outcome::Findings } else { Outcome::Fine })
    }

    /// The object as it is stored, with what its policy depends on.
    fn stored(&self) -> Result<(Vec<Source>, String), CliError> {
        let Some(wanted) = &self.object else { return Err(CliError::new("nothing to explain").help("name TYPE/NAME")) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::new(format!("cannot start: {error}")))?;
        let found = runtime.block_on(async {
            let settings = self.context.settings();
            let cluster = Cluster::infer(settings.default_storage, Arc::default()).await.map_err(|error| {
                CliError::new(format!("no cluster: {error}")).help("set KUBECONFIG, or name manifests with -f")
            })?;
            let namespace = self.context.namespace.clone().unwrap_or_else(|| cluster.default_namespace().to_owned());
            let objects = related(&cluster, &namespace, wanted).await?;
            Ok::<_, CliError>((objects, namespace))
        });
        // A name lookup that hangs must not hold up the end.
        runtime.shutdown_background();
        let (objects, namespace) = found?;
        let sources = objects.iter().map(|object| parse(None, object.to_string().into_bytes()));
        Ok((sources.collect::<Result<_, _>>()?, namespace))
    }
}

/// The object, and the custom resource that controls it or the workloads that it controls.
async fn related(cluster: &Cluster, namespace: &str, wanted: &Wanted) -> Result<Vec<Value>, CliError> {
    let get = async |kind: Kind, name: &str| {
        let (group, versions, plural) = match kind {
            Kind::Workload(kind) => ("apps", &["v1"][..], kind.plural()),
            Kind::CustomResource(kind) => (TOOLHIVE_GROUP, &TOOLHIVE_VERSIONS[..], kind.plural()),
        };
        match cluster.object(group, versions, plural, namespace, name).await {
            Answer::Found(object) => Ok(Some(object)),
            Answer::Absent => Ok(None),
            Answer::Unreadable(reason) => {
                Err(CliError::new(format!("cannot read {}/{name} in namespace {namespace}: {reason}", kind.as_str())))
            }
        }
    };
    let object = get(wanted.kind, &wanted.name).await?.ok_or_else(|| {
        let what = format!("there is no {}/{} in namespace {namespace}", wanted.kind.as_str(), wanted.name);
        CliError::new(what).help("choose another namespace with -n")
    })?;
    let others = match wanted.kind {
        Kind::Workload(_) => {
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            let owner = serde_json::from_value::<Metadata>(metadata).ok().and_then(|metadata| metadata.controller());
            owner.map(|owner| (Kind::CustomResource(owner.kind), owner.name)).into_iter().collect()
        }
        Kind::CustomResource(_) => WorkloadKind::ALL.map(|kind| (Kind::Workload(kind), wanted.name.clone())).to_vec(),
    };
    let mut objects = vec![object];
    for (kind, name) in others {
        objects.extend(get(kind, &name).await?);
    }
    Ok(objects)
}

fn machine(out: &mut Output, explained: &[(Explanation, Option<String>)], form: Form) -> Result<(), CliError> {
    let values = explained.iter().map(|(explanation, place)| {
        let mut value = serde_json::to_value(explanation).map_err(CliError::new)?;
        if let (Some(place), Some(object)) = (place, value.as_object_mut()) {
            object.insert("place".to_owned(), json!(place));
        }
        Ok::<_, CliError>(value)
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    match form {
        Form::Json => writeln!(out, "{:#}", Value::from(values))?,
        Form::Yaml => out.write_all(serde_saphyr::to_string(&values).map_err(CliError::new)?.as_bytes())?,
    }
    Ok(())
}

fn text(out: &mut Output, explained: &[(Explanation, Option<String>)]) -> Result<(), CliError> {
    let (bold, dim, red, yellow, reset) =
        if out.colour() { ("\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m") } else { ("", "", "", "", "") };
    for (at, (explanation, place)) in explained.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let Explanation { kind, name, namespace, .. } = explanation;
        let place = place.as_ref().map(|place| format!("  {place}")).unwrap_or_default();
        writeln!(out, "{bold}{kind}/{name}{reset} in namespace {namespace}{dim}{place}{reset}")?;
        writeln!(out, "  {}", standing(&explanation.standing))?;
        let width =
            explanation.settings.iter().map(|setting| shown(setting).chars().count()).max().unwrap_or(0).min(32);
        for setting in &explanation.settings {
            let from = origin(&setting.from);
            writeln!(out, "    {:<17} {:<width$}  {dim}{from}{reset}", setting.name, shown(setting))?;
        }
        section(out, "what a write of it changes", explanation.changes.iter().map(change))?;
        section(out, "what binds it", explanation.rules.iter().map(rule))?;
        let paint = |colour: &str, line: &String| format!("{colour}{line}{reset}");
        section(out, "a write of it draws warnings", explanation.warnings.iter().map(|line| paint(yellow, line)))?;
        section(
            out,
            "what no write of it is told",
            explanation.remarks.iter().map(|rule| paint(yellow, &plain(rule))),
        )?;
        section(out, "a write of it is refused", explanation.refused.iter().map(|line| paint(red, line)))?;
    }
    if explained.is_empty() {
        writeln!(out, "nothing in the input is of a kind that Berth looks at")?;
    }
    Ok(())
}

fn section(out: &mut Output, title: &str, lines: impl ExactSizeIterator<Item = String>) -> Result<(), CliError> {
    if lines.len() > 0 {
        writeln!(out, "  {title}")?;
    }
    for line in lines {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

fn standing(standing: &Standing) -> String {
    match standing {
        Standing::Annotations => "its policy stands in its own annotations".to_owned(),
        Standing::CustomResource { owner } => format!("its policy is that of {owner}, which controls it"),
        Standing::Itself => "it is the policy of the workloads that it controls".to_owned(),
        Standing::Target { target } => format!("it is judged by what it scales, {target}"),
        Standing::None { reason } => format!("Berth leaves it alone: {reason}"),
    }
}

fn shown(setting: &Setting) -> String {
    match &setting.value {
        _ if setting.unreadable => "unreadable".to_owned(),
        Value::Null => match setting.name {
            "replicas" | "backend replicas" => "hands off".to_owned(),
            _ => "none".to_owned(),
        },
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Field { object, field } => format!("{object} {field}"),
        Origin::Flag { flag } => (*flag).to_owned(),
        Origin::Default => "default".to_owned(),
    }
}

fn change(change: &Change) -> String {
    match (&change.from, &change.to) {
        (Value::Null, to) => format!("+ {}: {to}", change.field),
        (from, Value::Null) => format!("- {}: {from}", change.field),
        (from, to) => format!("~ {}: {from} → {to}", change.field),
    }
}

/// The reason of a condition is no code word of the webhook.
fn plain(rule: &Rule) -> String {
    let code = rule.code.map(|code| format!(" [{code}]")).unwrap_or_default();
    format!("{}{code}", rule.text)
}

fn rule(rule: &Rule) -> String {
    let code = rule.code.map(|code| format!(" [berth:{code}]")).unwrap_or_default();
    format!("{}{code}", rule.text)
}
