//! How the Kubernetes API server is found, and as whom it is spoken to.
//!
//! In: what the command line says ([`Access`]). Out: a [`Connection`]: a client of the crate `kube`, which carries requests
//! and knows how to authenticate (service account with a token that is read again as it changes, client certificates,
//! tokens, programs that print credentials). What a request means, when it is tried again and how long it may take is decided
//! by whoever sends it: the client retries nothing by itself.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::env;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the kubelet puts a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Variables that the kubelet sets in every pod; a pod that must not depend on Services sets them to a server's own address.
const SERVICE_VARIABLES: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// How long a server may take to accept a connection. Servers stand in the same network as nodes: one that does not answer
/// for so long is gone, and another attempt may reach another one behind the same name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API server is, and where the credentials are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig. `None`: the pod's service account if there is one, else what kubectl would take: `$KUBECONFIG`, else
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Whether only the pod's service account will do.
    pub in_cluster: bool,
    /// URL of the server, in place of the one that the kubeconfig or the pod's environment says.
    pub server: Option<String>,
}

/// A way to an API server. Nothing was sent yet.
#[derive(Clone)]
pub struct Connection {
    /// The client. Whoever uses it has to be on the runtime that it was made on.
    pub client: Client,
    /// URL of the server.
    pub server: String,
}

/// Why there is no way to an API server: what is wrong with the configuration, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError(String);

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for AccessError {}

impl Access {
    /// Reads the configuration and makes a client of it; to be called on the runtime that the client will be used on.
    /// Certificates and kubeconfig are read each time, so that a client made later has renewed ones.
    pub async fn connect(&self) -> Result<Connection, AccessError> {
        let (mut config, origin) = self.config().await?;
        let wrong = |what: &str, why: String| AccessError(format!("{origin}: {what}: {why}"));
        if let Some(server) = &self.server {
            config.cluster_url = server.parse().map_err(|why| wrong(server, format!("not a URL: {why}")))?;
        }
        let scheme = config.cluster_url.scheme_str();
        if !matches!(scheme, Some("http" | "https")) || config.cluster_url.authority().is_none() {
            let url = config.cluster_url.to_string();
            return Err(wrong(&url, "not the URL of an API server, such as https://10.0.0.1:6443".to_owned()));
        }
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = None;
        config.default_retry = false;
        let agent = concat!("podplane/", env!("CARGO_PKG_VERSION")).parse().expect("printable ASCII");
        config.headers.push((hyper::header::USER_AGENT, agent));
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| wrong("cannot be used", text(&error)))?;
        Ok(Connection { client, server })
    }

    /// The configuration, and what to call the place that it is from.
    async fn config(&self) -> Result<(Config, String), AccessError> {
        if let Some(path) = &self.kubeconfig {
            return Ok((from_kubeconfig(Kubeconfig::read_from(path), &shown(path)).await?, shown(path)));
        }
        if self.in_cluster || is_in_cluster() {
            let origin = "service account of the pod".to_owned();
            let config = Config::incluster_env();
            return config.map(|config| (config, origin.clone())).map_err(|error| {
                AccessError(format!("{origin}: {}. Outside a pod name a kubeconfig with --kubeconfig", text(&error)))
            });
        }
        let origin = match env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
            Some(paths) => format!("$KUBECONFIG ({})", Path::new(&paths).display()),
            None => "~/.kube/config".to_owned(),
        };
        let config = from_kubeconfig(Kubeconfig::read(), &origin).await;
        let config = config.map_err(|AccessError(why)| {
            AccessError(format!(
                "{why}. There is no service account of a pod either: name a kubeconfig with --kubeconfig"
            ))
        })?;
        Ok((config, origin))
    }
}

async fn from_kubeconfig(
    read: Result<Kubeconfig, kube::config::KubeconfigError>,
    origin: &str,
) -> Result<Config, AccessError> {
    let wrong = |error: kube::config::KubeconfigError| AccessError(format!("{origin}: {}", text(&error)));
    Config::from_custom_kubeconfig(read.map_err(wrong)?, &KubeConfigOptions::default()).await.map_err(wrong)
}

/// Whether this process runs in a pod that may speak to the API server.
fn is_in_cluster() -> bool {
    SERVICE_VARIABLES.iter().all(|name| env::var_os(name).is_some()) && Path::new(SERVICE_ACCOUNT_TOKEN).exists()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// An error with all that it was caused by. Causes that an error quotes itself are said once.
pub(super) fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn connect(access: &Access) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(access.connect());
        connected.map(|connection| connection.server).map_err(|error| error.to_string())
    }

    fn with_kubeconfig(text: &str, server: Option<&str>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, text).unwrap();
        let server = server.map(str::to_owned);
        let access = Access { kubeconfig: Some(path), server, ..Access::default() };
        connect(&access).map_err(|why| why.replace(&*folder.path().to_string_lossy(), ""))
    }

    const GOOD: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: secret}}]
";

    #[test]
    fn a_kubeconfig_says_where_the_server_is_and_the_command_line_has_the_last_word() {
        assert_eq!(with_kubeconfig(GOOD, None).unwrap(), "https://192.0.2.1:6443");
        assert_eq!(with_kubeconfig(GOOD, Some("https://api.example:443/")).unwrap(), "https://api.example:443");
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig_is_told_with_its_name() {
        let refusal = |text: &str| with_kubeconfig(text, None).unwrap_err();
        assert!(refusal("kind: [").starts_with("/config: failed to parse kubeconfig"), "{}", refusal("kind: ["));
        let without_context = GOOD.replace("current-context: here", "");
        assert!(refusal(&without_context).contains("current context"), "{}", refusal(&without_context));
        let bare = GOOD.replace("https://192.0.2.1:6443", "192.0.2.1:6443");
        assert!(refusal(&bare).contains("such as https://10.0.0.1:6443"), "{}", refusal(&bare));
        let no_file = GOOD.replace("token: secret", "tokenFile: /nonexistent/token");
        assert!(refusal(&no_file).contains("/nonexistent/token"), "{}", refusal(&no_file));
        let gone = Access { kubeconfig: Some("/nonexistent/config".into()), ..Access::default() };
        let gone = connect(&gone).unwrap_err();
        assert!(gone.starts_with("/nonexistent/config: failed to read kubeconfig"), "{gone}");
    }

    #[test]
    fn outside_a_pod_the_service_account_is_missed_with_advice() {
        if is_in_cluster() {
            // The tests themselves run in a pod.
            return;
        }
        let why = connect(&Access { in_cluster: true, ..Access::default() }).unwrap_err();
        assert!(why.starts_with("service account of the pod: ") && why.contains("--kubeconfig"), "{why}");
    }
}
