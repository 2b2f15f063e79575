//! Taking a changed file into use while running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::flags::Flags;
use super::generation;
use super::run_config::RunConfig;
use super::settings::{Environment, Settings};

/// Between two looks at the file. Kubernetes itself takes up to a minute to bring a changed ConfigMap to a pod.
const LOOK: Duration = Duration::from_secs(2);

/// What came of a changed file.
#[derive(Debug)]
pub enum Update {
    /// New settings. Some of them (addresses, where sessions are kept) count from the next start on; it is for the
    /// caller to say which.
    Settings(Box<Settings>),
    /// It is of a newer generation than this pod, which is about to be replaced: what runs, goes on.
    Newer {
        /// The file's generation.
        file: i64,
        /// The pod's.
        pod: i64,
    },
    /// It cannot be used, for this reason: what runs, goes on.
    Wrong(String),
}

/// Watches the configuration's file by its contents, so that a swapped symbolic link (as the kubelet makes) counts, and a
/// touched file does not.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    flags: Flags,
    last: Option<String>,
    /// When to look next. Kept here, so that whoever waits may give up and wait anew.
    next_look: Instant,
}

impl Reloader {
    /// Watches `path`, of which `contents` are in use.
    #[must_use]
    pub fn new(path: &Path, contents: String, flags: Flags) -> Self {
        Self { path: path.to_owned(), flags, last: Some(contents), next_look: Instant::now() + LOOK }
    }

    /// Waits for the next change that can be told something of. Nothing is missed where this is cancelled.
    pub async fn next(&mut self, environment: &Environment) -> Update {
        loop {
            tokio::time::sleep_until(self.next_look).await;
            self.next_look = Instant::now() + LOOK;
            if let Some(update) = self.look(environment) {
                return update;
            }
        }
    }

    /// Looks once; `None` when nothing has changed.
    pub fn look(&mut self, environment: &Environment) -> Option<Update> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                // Told once; the next contents are a change, whatever they are.
                let why = format!("cannot read {}: {error}", self.path.display());
                return self.last.take().map(|_| Update::Wrong(why));
            }
        };
        if self.last.as_ref() == Some(&text) {
            return None;
        }
        let update = self.judge(&text, environment);
        self.last = Some(text);
        Some(update)
    }

    fn judge(&self, text: &str, environment: &Environment) -> Update {
        let file = match RunConfig::parse(text) {
            Ok(file) => file,
            Err(error) => return Update::Wrong(format!("{}: {error}", self.path.display())),
        };
        // The pod's own generation is its stamp alone; the file's is what is judged.
        let (pod, _) = generation::effective(None, environment.generation.as_deref());
        if let (Some(file), Some(pod)) = (file.mcpserver_generation, pod)
            && generation::is_newer(Some(file), Some(pod))
        {
            return Update::Newer { file, pod };
        }
        match Settings::new(&self.flags, Some(&file), environment) {
            Ok(settings) => Update::Settings(Box::new(settings)),
            Err(error) => Update::Wrong(format!("{}: {error}", self.path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("berth-reload-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn text(generation: i64, ttl: &str) -> String {
        format!("{{\"mcpserver_generation\": {generation}, \"target_port\": 1, \"session_ttl\": \"{ttl}\"}}")
    }

    fn stamp(generation: &str) -> Environment {
        Environment { generation: Some(generation.into()), ..Environment::default() }
    }

    #[test]
    fn a_change_is_taken_unless_it_is_of_a_newer_generation() {
        let dir = Dir::new("change");
        let path = dir.0.join("runconfig.json");
        fs::write(&path, text(5, "1h")).unwrap();
        let mut reloader = Reloader::new(&path, text(5, "1h"), Flags::default());
        assert!(reloader.look(&stamp("5")).is_none());
        fs::write(&path, text(5, "2h")).unwrap();
        let Some(Update::Settings(settings)) = reloader.look(&stamp("5")) else { panic!("not taken") };
        assert_eq!(settings.sessions.ttl, Duration::from_secs(7200));
        assert!(reloader.look(&stamp("5")).is_none(), "once");
        fs::write(&path, text(6, "3h")).unwrap();
        assert!(matches!(reloader.look(&stamp("5")), Some(Update::Newer { file: 6, pod: 5 })));
        fs::write(&path, text(6, "4h")).unwrap();
        assert!(matches!(reloader.look(&Environment::default()), Some(Update::Settings(_))), "no stamp, no limit");
    }

    #[test]
    fn what_cannot_be_used_is_said_once_and_changes_nothing() {
        let dir = Dir::new("wrong");
        let path = dir.0.join("runconfig.json");
        let mut reloader = Reloader::new(&path, text(5, "1h"), Flags::default());
        assert!(matches!(reloader.look(&stamp("5")), Some(Update::Wrong(_))), "not there");
        assert!(reloader.look(&stamp("5")).is_none());
        fs::write(&path, "{").unwrap();
        assert!(matches!(reloader.look(&stamp("5")), Some(Update::Wrong(_))));
        assert!(reloader.look(&stamp("5")).is_none());
        fs::write(&path, text(5, "1h")).unwrap();
        assert!(matches!(reloader.look(&stamp("5")), Some(Update::Settings(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_misses_nothing() {
        let dir = Dir::new("cancelled");
        let path = dir.0.join("runconfig.json");
        fs::write(&path, text(5, "2h")).unwrap();
        let mut reloader = Reloader::new(&path, text(5, "1h"), Flags::default());
        let environment = Environment::default();
        let impatient = async {
            loop {
                if let Ok(update) = tokio::time::timeout(LOOK / 2, reloader.next(&environment)).await {
                    break update;
                }
            }
        };
        let update = tokio::time::timeout(LOOK * 2, impatient).await.expect("never looked");
        assert!(matches!(update, Update::Settings(_)));
    }

    #[cfg(unix)]
    #[test]
    fn a_swapped_link_is_a_change() {
        let dir = Dir::new("link");
        for (version, ttl) in [("..1", "1h"), ("..2", "2h")] {
            fs::create_dir(dir.0.join(version)).unwrap();
            fs::write(dir.0.join(version).join("runconfig.json"), text(5, ttl)).unwrap();
        }
        let (data, path) = (dir.0.join("..data"), dir.0.join("runconfig.json"));
        std::os::unix::fs::symlink("..1", &data).unwrap();
        std::os::unix::fs::symlink("..data/runconfig.json", &path).unwrap();
        let mut reloader = Reloader::new(&path, fs::read_to_string(&path).unwrap(), Flags::default());
        assert!(reloader.look(&stamp("5")).is_none());
        std::os::unix::fs::symlink("..2", dir.0.join("..new")).unwrap();
        fs::rename(dir.0.join("..new"), &data).unwrap();
        assert!(matches!(reloader.look(&stamp("5")), Some(Update::Settings(_))));
    }
}
