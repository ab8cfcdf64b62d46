//! One name, several addresses, and not all of them alive.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::http::{Server, created, signaller, uplink};

const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// `localhost` is ::1 and 127.0.0.1; nothing listens at the first, or it swallows what comes.
#[tokio::test]
async fn localhost_is_reached_though_ipv6_is_dead() {
    let server = Server::start(|_| created(&["Location: /s"])).await;
    let port = server.port;
    let url = format!("http://localhost:{port}/whip").parse().unwrap();
    let mut signaller = signaller(&uplink(url)).unwrap();
    signaller.publish("v=0\r\n").await.unwrap();

    let has_v6 = lookup_host(("localhost", port)).await.unwrap().any(|address| address.ip() == V6);
    let socket = TcpSocket::new_v6().ok().filter(|socket| has_v6 && socket.bind((V6, port).into()).is_ok());
    let Some(socket) = socket else {
        println!("SKIPPED the black hole: `localhost` is not ::1 here");
        return;
    };
    // A queue that is full: the kernel drops what else comes.
    let _dead = socket.listen(1).unwrap();
    let mut filling = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(500), TcpStream::connect((V6, port))).await {
        filling.push(connected.unwrap());
    }
    let mut anew = crate::http::signaller(&uplink(format!("http://localhost:{port}/whip").parse().unwrap())).unwrap();
    anew.publish("v=0\r\n").await.unwrap();
    assert_eq!(server.requests().len(), 2);
}
