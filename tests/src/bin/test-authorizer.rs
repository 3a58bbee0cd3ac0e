//! An external authorizer as a process of the tests: `test-authorizer IP PORT [deny]`. It prints its address.

use std::net::IpAddr;

use anyhow::Context;
use inmesh_tests::kit::authorizer::Authorizer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let ip: IpAddr = args.next().context("IP")?.parse()?;
    let port = args.next().context("PORT")?.parse()?;
    let server = Authorizer::new(args.next().is_none()).start(ip, port).await?;
    println!("{}", server.addr());
    std::future::pending::<()>().await;
    Ok(())
}
