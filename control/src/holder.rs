//! Which process holds a port of this network namespace, as far as /proc says so: for messages to people.

use std::fs;
use std::net::IpAddr;
use wire::Protocol;

/// Most processes that are looked at: the answer is a courtesy, not worth more than a moment.
const PROCESSES_MAX: usize = 20_000;

/// Number and name of a process other than this one that is bound to `port`, such as `nginx (pid 77)`. `None` if there is none,
/// or it cannot be seen from here (another user's, another PID namespace's).
pub(crate) fn find(protocol: Protocol, address: IpAddr, port: u16) -> Option<String> {
    let files = match protocol {
        Protocol::TCP => ["tcp", "tcp6"],
        Protocol::UDP => ["udp", "udp6"],
        _ => return None,
    };
    // A socket of IPv6 may take IPv4 as well.
    let files = if address.is_ipv4() { &files[..] } else { &files[1..] };
    let tables = files.iter().filter_map(|file| fs::read_to_string(format!("/proc/self/net/{file}")).ok());
    let inodes: Vec<u64> = tables.flat_map(|table| inodes(&table, protocol, port)).collect();
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let own = std::process::id();
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut others = processes.filter(|pid| *pid != own).take(PROCESSES_MAX);
    let holder = others.find(|pid| holds(*pid, &links))?;
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    Some(format!("{} (pid {holder})", name.trim_end()))
}

/// Inodes of the sockets in a /proc/net table that are bound to `port` and, for TCP, listen.
fn inodes(table: &str, protocol: Protocol, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let bound = rows.filter(|row| {
        let listens = protocol != Protocol::TCP || row.get(3) == Some(&LISTEN);
        listens && row.get(1).is_some_and(|local| local.ends_with(&suffix))
    });
    bound.filter_map(|row| row.get(9)?.parse().ok()).filter(|inode| *inode != 0).collect()
}

fn holds(pid: u32, links: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| links.iter().any(|link| link == target)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::process::Command;

    #[test]
    fn rows_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:7594 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n\
                     1: 0100007F:7594 0100007F:8888 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n";
        assert_eq!(inodes(table, Protocol::TCP, 30_100), [4711]);
        assert_eq!(inodes(table, Protocol::TCP, 30_101), [0; 0]);
    }

    #[test]
    fn another_process_is_named_and_this_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, port) = (listener.local_addr().unwrap().ip(), listener.local_addr().unwrap().port());
        assert_eq!(find(Protocol::TCP, address, port), None);
        // The socket becomes the standard input of a process that never looks at it, and is ours no longer.
        let mut holder = Command::new("sleep").arg("600").stdin(OwnedFd::from(listener)).spawn().unwrap();
        let found = find(Protocol::TCP, address, port);
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(found, Some(format!("sleep (pid {})", holder.id())));
        assert_eq!(find(Protocol::TCP, address, port), None);
    }
}
