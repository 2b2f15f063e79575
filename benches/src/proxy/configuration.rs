//! How each candidate is told the same: one thread, three servers, keep-alive on both sides, the forwarding headers that
//! Berth adds, a stick table or a cache of the given size.

use std::net::SocketAddr;
use std::path::Path;

use super::candidate::Size;
use crate::Result;

/// Bytes of an answer's body.
pub(crate) const ANSWER_BODY: usize = 213;

/// nginx as a server of sessions: it repeats the session of a request or gives out a new one, and says which of the servers
/// it is.
pub(crate) fn servers(addresses: &[SocketAddr; 3], dir: &Path) -> Result<String> {
    let fixed = r#"{"jsonrpc":"2.0","id":1,"result":{"server":00000,"padding":""}}"#;
    let padding = "x".repeat(ANSWER_BODY - fixed.len());
    let mut servers = String::new();
    for address in addresses {
        let port = address.port();
        if port < 10_000 {
            return Err("a port of five digits is needed".into());
        }
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"server":{port},"padding":"{padding}"}}}}"#);
        servers += &format!(
            "  server {{\n    listen {address} backlog=4096;\n    default_type application/json;\n    \
             add_header Mcp-Session-Id $session;\n    return 200 '{body}';\n  }}\n"
        );
    }
    let map = "  map $http_mcp_session_id $session { '' $request_id; default $http_mcp_session_id; }\n";
    Ok(nginx_process(dir, "servers", &format!("{map}{servers}")))
}

pub(crate) fn nginx(listen: SocketAddr, servers: &[SocketAddr; 3], dir: &Path) -> String {
    let servers: String = servers.iter().map(|server| format!("    server {server};\n")).collect();
    let http = format!(
        "  upstream servers {{\n    hash $http_mcp_session_id consistent;\n{servers}    keepalive 2000;\n    \
         keepalive_requests 100000000;\n  }}\n  server {{\n    listen {listen} backlog=4096;\n    location / {{\n      \
         proxy_pass http://servers;\n      proxy_http_version 1.1;\n      proxy_set_header Connection '';\n      \
         proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      \
         proxy_set_header Forwarded \"for=$remote_addr;proto=http\";\n      \
         proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_set_header X-Forwarded-Host $http_host;\n      \
         proxy_buffering off;\n      proxy_read_timeout 1h;\n    }}\n  }}\n"
    );
    nginx_process(dir, &format!("nginx-{}", listen.port()), &http)
}

/// One process that does not leave the terminal, and writes into `dir` alone.
fn nginx_process(dir: &Path, name: &str, http: &str) -> String {
    let dir = dir.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("  {what}_temp_path {dir}/{name}-{what};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr;\npid {dir}/{name}.nginx.pid;\nworker_rlimit_nofile 16384;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  keepalive_requests 100000000;\n  \
         keepalive_timeout 1h;\n{places}{http}}}\n"
    )
}

pub(crate) fn haproxy(listen: SocketAddr, servers: &[SocketAddr; 3], size: Size) -> String {
    let Size { sessions, id_length } = size;
    let servers: String = servers.iter().enumerate().map(|(n, server)| format!("  server s{n} {server}\n")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  option http-keep-alive\n  option http-no-delay\n  \
         http-reuse always\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\nfrontend clients\n  \
         bind {listen}\n  option forwardfor\n  http-request add-header Forwarded \"for=%[src];proto=http\"\n  \
         http-request set-header X-Forwarded-Proto http unless {{ req.hdr(X-Forwarded-Proto) -m found }}\n  \
         http-request set-header X-Forwarded-Host %[req.hdr(Host)] unless {{ req.hdr(X-Forwarded-Host) -m found }}\n  \
         default_backend servers\nbackend servers\n  balance roundrobin\n  \
         stick-table type string len {id_length} size {sessions} expire 2h\n  stick match req.hdr(Mcp-Session-Id)\n  \
         stick store-response res.hdr(Mcp-Session-Id)\n{servers}"
    )
}

pub(crate) fn berth(
    listen: SocketAddr,
    admin: SocketAddr,
    servers: &[SocketAddr; 3],
    size: Size,
    redis: Option<String>,
) -> Vec<String> {
    let mut arguments = vec!["--threads=1".to_owned(), format!("--listen={listen}"), format!("--admin={admin}")];
    arguments.extend(servers.iter().map(|server| format!("--backend=http://{server}")));
    arguments.push("--server=bench".into());
    match redis {
        None => arguments.push(format!("--max-sessions={}", size.sessions)),
        Some(redis) => {
            arguments.extend([format!("--redis={redis}"), format!("--session-cache-size={}", size.sessions)])
        }
    }
    arguments
}
