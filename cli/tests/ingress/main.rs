//! `podplane ingress` end to end, on one machine and with the clients that people use: curl, openssl, h2load, a gRPC client and
//! server, a WebSocket client and server.

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod clients;
mod door;
mod tls;

use support::Folder;
use support::ingress::{Backend, CLASS, Proxy, ingress, service};

/// One backend behind the host `shop.example`, and the folder of its manifests.
fn shop(args: &[&str]) -> (Folder, Backend, Proxy) {
    let (folder, backend) = (Folder::new(), Backend::start("shop"));
    let shop = [CLASS, &service("shop", &[backend.address], ""), &ingress("shop", "shop.example", "shop", None)];
    folder.write("shop.yaml", &shop.concat());
    let proxy = Proxy::start(&folder, args);
    (folder, backend, proxy)
}
