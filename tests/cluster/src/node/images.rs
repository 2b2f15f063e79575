//! Images around programs of the machine.

use super::Image;
use super::installation::VMCP_IMAGE;
use crate::Result;
use crate::installed::installed;

/// An image with busybox under the names of its commands that tests use, `sh` first of all.
///
/// # Errors
/// When busybox is not installed.
pub fn busybox_image() -> Result<Image> {
    let image = commands(Image::of_program("berth-test/busybox:1", &installed("busybox", "busybox-static")?));
    Ok(image.entrypoint(&["/bin/sh"]))
}

/// An image of Debian's Redis, which takes redis-server's arguments.
///
/// # Errors
/// When redis-server is not installed.
pub fn redis_image() -> Result<Image> {
    let program = installed("redis-server", "redis-server")?;
    let image = Image::of_program("berth-test/redis:1", &program);
    Ok(image.entrypoint(&["/usr/bin/redis-server", "--save", "", "--bind", "*"]))
}

/// A stand-in for a vMCP aggregator: prints its arguments, its environment and its configuration, and is healthy.
///
/// # Errors
/// When busybox is not installed.
pub fn vmcp_image() -> Result<Image> {
    let script = "echo \"arguments: $*\"; env; cat /etc/vmcp-config/config.yaml; exec httpd -f -p 4483 -h /www";
    let image = commands(Image::of_program(VMCP_IMAGE, &installed("busybox", "busybox-static")?));
    Ok(image.text("/www/health", "well\n").entrypoint(&["/bin/sh", "-c", script, "vmcp"]))
}

fn commands(image: Image) -> Image {
    let commands = ["sh", "cat", "echo", "env", "httpd", "mkdir", "nc", "nslookup", "sleep", "wget"];
    commands.iter().fold(image, |image, command| image.link(&format!("/bin/{command}"), "/usr/bin/busybox"))
}
