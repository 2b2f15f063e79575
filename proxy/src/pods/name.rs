//! Names of pods: what stands in a pin, and the only way back from it.

use std::fmt;

use crate::address::split_host_port;

/// A pod of the server: its ordinal in the StatefulSet, or its place among the configured backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u16);

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the pods of one server are called. A pin is read only by this, so that no record can steer a request elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Pods of a StatefulSet behind its headless Service.
    StatefulSet(StatefulSetNaming),
    /// Servers named one by one, outside Kubernetes.
    Fixed(Vec<Backend>),
}

impl Naming {
    /// The address of a pod as pins hold it, `http://<sts>-<i>.<svc>.<ns>.svc.<domain>:<port>`; `None` where a list of
    /// backends has no such place.
    #[must_use]
    pub fn url(&self, pod: PodId) -> Option<String> {
        match self {
            Self::StatefulSet(set) => Some(format!("http://{}:{}", set.host(pod), set.port)),
            Self::Fixed(backends) => backends.get(usize::from(pod.0)).map(|backend| backend.url.clone()),
        }
    }

    /// The pod whose address is exactly this one.
    #[must_use]
    pub fn parse_url(&self, url: &str) -> Option<PodId> {
        match self {
            Self::StatefulSet(set) => {
                let (host, port) = url.strip_prefix("http://")?.rsplit_once(':')?;
                let pod = set.parse_host(host)?;
                (port.parse() == Ok(set.port) && !port.starts_with(['+', '0'])).then_some(pod)
            }
            Self::Fixed(backends) => {
                let at = backends.iter().position(|backend| backend.url == url)?;
                u16::try_from(at).ok().map(PodId)
            }
        }
    }

    /// The pod's own name, for people and for keys of the store: `<sts>-<i>`, or `host:port`.
    #[must_use]
    pub fn label(&self, pod: PodId) -> Option<String> {
        match self {
            Self::StatefulSet(set) => Some(format!("{}-{pod}", set.statefulset)),
            Self::Fixed(backends) => backends.get(usize::from(pod.0)).map(Backend::label),
        }
    }
}

/// A StatefulSet and its headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSetNaming {
    /// Name of the StatefulSet.
    pub statefulset: String,
    /// Name of the headless Service that governs it.
    pub service: String,
    /// Namespace of both.
    pub namespace: String,
    /// The cluster's DNS domain, usually `cluster.local`.
    pub domain: String,
    /// Port of the server in each pod.
    pub port: u16,
}

impl StatefulSetNaming {
    /// DNS name of a pod, without a final dot.
    #[must_use]
    pub fn host(&self, pod: PodId) -> String {
        format!("{}-{pod}.{}", self.statefulset, self.service_host())
    }

    /// DNS name of the headless Service, without a final dot.
    #[must_use]
    pub fn service_host(&self) -> String {
        format!("{}.{}.svc.{}", self.service, self.namespace, self.domain)
    }

    /// The pod whose DNS name is exactly this one; upper case and a final dot make another name here.
    #[must_use]
    pub fn parse_host(&self, host: &str) -> Option<PodId> {
        let rest = host.strip_prefix(self.statefulset.as_str())?.strip_prefix('-')?;
        let (ordinal, service) = rest.split_once('.')?;
        (service == self.service_host()).then(|| parse_ordinal(ordinal)).flatten()
    }
}

#[cfg(test)]
impl StatefulSetNaming {
    /// That of the tests.
    pub(crate) fn web() -> Self {
        Self {
            statefulset: "web".into(),
            service: "mcp-web-headless".into(),
            namespace: "team".into(),
            domain: "cluster.local".into(),
            port: 8080,
        }
    }
}

/// Plain digits without leading zeros: `7` is an ordinal, `07` and `+7` are names of nothing.
fn parse_ordinal(text: &str) -> Option<PodId> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok().map(PodId)).flatten()
}

/// One server outside Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    url: String,
    /// Host name or IP address, without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is spoken to in HTTP/2 without TLS.
    pub h2c: bool,
}

impl Backend {
    /// Reads `http://HOST:PORT` or `h2c://HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong and what to write instead, as the end of a sentence about the backend.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write http://HOST:PORT or h2c://HOST:PORT";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("it has no scheme; {form}"))?;
        let h2c = match scheme {
            "http" => false,
            "h2c" => true,
            _ => return Err(format!("{scheme:?} is no scheme of a backend; {form}")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(format!("it has more than a host and a port; {form}"));
        }
        let (host, port) = split_host_port(authority, form)?;
        Ok(Self { url: format!("{scheme}://{authority}"), host: host.to_owned(), port, h2c })
    }

    /// As it stands in pins, without a final slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    fn label(&self) -> String {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, authority)| authority).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pod_has_one_address_and_the_address_names_the_pod() {
        let naming = Naming::StatefulSet(StatefulSetNaming::web());
        let url = "http://web-2.mcp-web-headless.team.svc.cluster.local:8080";
        assert_eq!(naming.url(PodId(2)).as_deref(), Some(url));
        assert_eq!(naming.parse_url(url), Some(PodId(2)));
        assert_eq!(naming.label(PodId(2)).as_deref(), Some("web-2"));
    }

    #[test]
    fn names_that_only_look_like_a_pod_are_nobodys() {
        let naming = Naming::StatefulSet(StatefulSetNaming::web());
        let service = "mcp-web-headless.team.svc.cluster.local";
        for url in [
            format!("http://web-2.{service}:8080/"),
            format!("http://web-2.{service}:8080@evil.example:80"),
            format!("http://evil.example/web-2.{service}:8080"),
            format!("http://user:pw@web-2.{service}:8080"),
            format!("http://web-2.{service}.:8080"),
            format!("http://web-2.{service}:08080"),
            format!("http://web-2.{service}:+8080"),
            format!("http://web-2.{service}:80"),
            format!("http://web-2.{service}"),
            format!("https://web-2.{service}:8080"),
            format!("HTTP://web-2.{service}:8080"),
            format!("http://web-02.{service}:8080"),
            format!("http://web-+2.{service}:8080"),
            format!("http://web-.{service}:8080"),
            format!("http://web--2.{service}:8080"),
            format!("http://web-65536.{service}:8080"),
            format!("http://web-x-2.{service}:8080"),
            format!("http://Web-2.{service}:8080"),
            format!("http://web-2.evil.{service}:8080"),
            format!("http://web-2.{service}.evil.example:8080"),
            "http://web-2.mcp-web-headless.other.svc.cluster.local:8080".to_owned(),
            format!("http://web-2.{service}:8080\r\nHost: evil"),
            String::new(),
        ] {
            assert_eq!(naming.parse_url(&url), None, "{url}");
        }
    }

    #[test]
    fn fixed_backends_are_matched_whole() {
        let backends = ["http://127.0.0.1:9001", "h2c://[::1]:9002/"].map(|url| Backend::parse(url).unwrap()).to_vec();
        assert_eq!((backends[1].host.as_str(), backends[1].port, backends[1].h2c), ("::1", 9002, true));
        let naming = Naming::Fixed(backends);
        assert_eq!(naming.parse_url("http://127.0.0.1:9001"), Some(PodId(0)));
        assert_eq!(naming.parse_url("h2c://[::1]:9002"), Some(PodId(1)));
        assert_eq!(naming.url(PodId(2)), None);
        for url in
            ["http://127.0.0.1:9002", "http://127.0.0.1:90010", "h2c://127.0.0.1:9001", "http://x@127.0.0.1:9001"]
        {
            assert_eq!(naming.parse_url(url), None, "{url}");
        }
    }

    #[test]
    fn what_is_no_backend_is_said() {
        for (text, part) in [
            ("127.0.0.1:80", "no scheme"),
            ("https://a:1", "no scheme of a backend"),
            ("http://a", "no port; write http://HOST:PORT"),
            ("http://a:1/mcp", "more than"),
            ("http://u@a:1", "more than"),
        ] {
            let error = Backend::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        /// Whatever text is read as a pod, it is that pod's address letter for letter.
        #[test]
        fn a_pin_never_points_outside_its_statefulset(
            before in "(http://|https://|http://[a-z]{0,3}@|//)?",
            name in "(web|Web|web-x|webx|)[-.]{0,2}(0|00|[+]?[0-9]{1,6})",
            after in "[.](mcp-web-headless[.]team[.]svc[.]cluster[.]local|mcp-web-headless[.]team|evil)[.]?",
            tail in "(:8080|:08080|:80|:8080@evil[.]example|:8080#|:8080/|@evil:8080|)",
        ) {
            let naming = Naming::StatefulSet(StatefulSetNaming::web());
            let url = format!("{before}{name}{after}{tail}");
            if let Some(pod) = naming.parse_url(&url) {
                prop_assert_eq!(naming.url(pod), Some(url));
            }
        }

        #[test]
        fn no_text_is_a_pod_unless_it_is_its_address(url in "\\PC{0,80}") {
            let naming = Naming::StatefulSet(StatefulSetNaming::web());
            prop_assert_eq!(naming.parse_url(&url).and_then(|pod| naming.url(pod)), naming.parse_url(&url).map(|_| url));
        }

        #[test]
        fn every_pod_is_found_by_its_address(ordinal: u16) {
            let naming = Naming::StatefulSet(StatefulSetNaming::web());
            let url = naming.url(PodId(ordinal)).unwrap();
            prop_assert_eq!(naming.parse_url(&url), Some(PodId(ordinal)));
        }
    }
}
