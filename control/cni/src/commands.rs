//! One function per command of the protocol: what is checked, what the node process is asked, what the runtime is told.

use crate::agent::{self, Unanswered};
use crate::api::{Add, Added, Check, Collected, Del, Gc, PodArgs, Removed};
use crate::configuration::{self, Configuration};
use crate::environment::{self, Args, Attachment, Command, Get};
use crate::failure::{Code, Failure};
use crate::version::{SUPPORTED, Version};
use crate::{absent, result};
use serde::de::IgnoredAny;
use serde_json::json;

/// Does what the environment and the configuration ask for; gives what is to be written on standard output.
pub(crate) fn run(get: Get<'_>, text: &[u8]) -> Result<String, Failure> {
    let command = environment::command(get)?;
    if command == Command::Version {
        let asked = configuration::asked_version(text)?;
        let version = asked.as_deref().unwrap_or(Version::LATEST.as_str());
        return Ok(format!("{}\n", json!({"cniVersion": version, "supportedVersions": SUPPORTED})));
    }
    let attachment = match command {
        Command::Gc | Command::Status => None,
        _ => Some(environment::attachment(get, command)?),
    };
    let no_args = Args::default();
    let args = attachment.as_ref().map_or(&no_args, |attachment| &attachment.args);
    let configuration = configuration::read(text, args, get)?;
    let version = configuration.version;
    let needed = match command {
        Command::Gc | Command::Status => Version::V1_1,
        Command::Check => Version::V0_4,
        _ => version,
    };
    let done = if version < needed {
        let details = format!("CNI {} does not have this command, {} does", version.as_str(), needed.as_str());
        Err(Failure::new(Code::IncompatibleVersion, "incompatible CNI version", details))
    } else {
        match (command, attachment) {
            (Command::Add, Some(attachment)) => add(get, &configuration, &attachment),
            (Command::Check, Some(attachment)) => check(get, &configuration, &attachment),
            (Command::Del, Some(attachment)) => del(&configuration, &attachment),
            (Command::Gc, _) => gc(&configuration),
            _ => status(&configuration),
        }
    };
    done.map_err(|failure| Failure { version, ..failure })
}

fn add(get: Get<'_>, configuration: &Configuration, attachment: &Attachment) -> Result<String, Failure> {
    environment::check_netns(get, &attachment.netns)?;
    let Args { namespace, name, uid, .. } = attachment.args.clone();
    let request = Add {
        network: configuration.name.clone(),
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
        netns: attachment.netns.clone(),
        pod: PodArgs { namespace, name, uid },
        labels: configuration.labels.clone(),
        ips: configuration.ips.clone(),
        mac: configuration.mac.clone(),
        port_mappings: configuration.port_mappings.clone(),
        bandwidth: configuration.bandwidth,
    };
    let socket = &configuration.socket;
    let added: Added = agent::post(socket, "/v1/cni/add", &request).map_err(|error| error.failure(socket))?;
    for warning in &added.warnings {
        eprintln!("podplane-cni: {warning}");
    }
    let previous = configuration.prev_result.as_ref();
    let result = result::of(configuration.version, attachment, &added, configuration.dns.as_ref(), previous);
    match result {
        Ok(result) => Ok(format!("{result}\n")),
        Err(failure) => {
            // Nothing may be left of an ADD that fails (P07); that it failed is what the runtime has to hear.
            let undo = Del { container_id: request.container_id, ifname: request.ifname };
            let _ = agent::post::<Removed>(socket, "/v1/cni/del", &undo);
            Err(failure)
        }
    }
}

fn del(configuration: &Configuration, attachment: &Attachment) -> Result<String, Failure> {
    let request = Del { container_id: attachment.container_id.clone(), ifname: attachment.ifname.clone() };
    let socket = &configuration.socket;
    match agent::post::<Removed>(socket, "/v1/cni/del", &request) {
        Ok(_) => {}
        Err(Unanswered::Refused(refusal)) => return Err(Unanswered::Refused(refusal).failure(socket)),
        Err(Unanswered::Down(_) | Unanswered::Broken(_)) => absent::del(socket, &request, &attachment.netns),
    }
    Ok(String::new())
}

fn check(get: Get<'_>, configuration: &Configuration, attachment: &Attachment) -> Result<String, Failure> {
    environment::check_netns(get, &attachment.netns)?;
    let missing = || Failure::configuration("prevResult is missing: CHECK compares with the result of ADD");
    let previous = configuration.prev_result.as_ref().ok_or_else(missing)?;
    let (addresses, gateways) = result::expected(attachment, previous)?;
    let request = Check {
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
        netns: attachment.netns.clone(),
        addresses,
        gateways,
    };
    let socket = &configuration.socket;
    agent::post::<IgnoredAny>(socket, "/v1/cni/check", &request).map_err(|error| error.failure(socket))?;
    Ok(String::new())
}

fn gc(configuration: &Configuration) -> Result<String, Failure> {
    let missing = || {
        Failure::configuration(
            "cni.dev/valid-attachments is missing: without it every attachment of the network would be ended",
        )
    };
    let valid = configuration.valid.clone().ok_or_else(missing)?;
    let request = Gc { network: configuration.name.clone(), valid };
    let socket = &configuration.socket;
    let collected: Collected = agent::post(socket, "/v1/cni/gc", &request).map_err(|error| error.failure(socket))?;
    if collected.errors.is_empty() {
        return Ok(String::new());
    }
    let details =
        format!("{} attachments were ended, and of others: {}", collected.removed, collected.errors.join("; "));
    Err(Failure::new(Code::Failed, "not done", details))
}

fn status(configuration: &Configuration) -> Result<String, Failure> {
    let socket = &configuration.socket;
    match agent::get::<IgnoredAny>(socket, "/v1/cni/status") {
        Ok(_) => Ok(String::new()),
        Err(error) => {
            // All traffic of pods goes through the node process: without it what is attached is cut off too.
            let (code, message) = match &error {
                Unanswered::Down(_) | Unanswered::Broken(_) => (Code::Degraded, "not available, nor are existing pods"),
                Unanswered::Refused(refusal) if refusal.code == "degraded" => {
                    (Code::Degraded, "not available, nor are existing pods")
                }
                Unanswered::Refused(_) => (Code::NotAvailable, "not available"),
            };
            Err(Failure { code, message, ..error.failure(socket) })
        }
    }
}
