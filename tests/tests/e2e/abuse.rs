//! HTTP used to exhaust: the connection that does it ends, or its request does, and others are served all the while.
//!
//! The tunnels below have tests of their own kind beside their code; this is the HTTP inside, and a Gateway's listener.

use std::time::Duration;

use anyhow::Result;
use inmesh_tests::kit::frames::{self, Came, END_HEADERS, END_STREAM, Raw, frame, kind};
use inmesh_tests::kit::world::status;
use inmesh_tests::kit::{Door, House};
use tokio::io::AsyncWriteExt;

at_every_door!(
    row_1_rapid_resets_end_the_connection_cve_2023_44487,
    row_2_resets_that_we_are_made_to_send_count_too_cve_2025_8671,
    row_3_endless_continuations_end_the_connection_cve_2024_30255,
    row_4_a_small_head_that_unpacks_to_a_large_one_is_refused_cve_2026_10725,
    row_5_more_names_than_a_map_can_hold_are_refused,
    row_6_endless_empty_data_ends_the_connection_rustsec_2026_0258,
    row_7_floods_of_control_frames_do_no_harm_cve_2019_9512_9515,
    row_8_frames_for_closed_streams_do_not_pile_up_rustsec_2024_0003,
    row_10_a_length_that_the_body_does_not_have_is_refused_cve_2026_73513,
);

const CALM: u32 = 11;

async fn raw(house: &House) -> Result<Raw> {
    Raw::begin(house.knock().await?).await
}

fn head(path: &str) -> Vec<u8> {
    frames::block(&frames::get("reviews:9080", path))
}

/// Somebody else's request, on another connection.
async fn others_are_served(house: &House) {
    let answer = tokio::time::timeout(
        Duration::from_secs(10),
        house.world.other.get("http://reviews:9080/"),
    )
    .await;
    assert_eq!(status(answer.expect("it is answered")), 200);
}

async fn row_1_rapid_resets_end_the_connection_cve_2023_44487(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let head = head("/sleep/100000");
    let came = raw(&house)
        .await?
        .flood(100_000, move |n| {
            let stream = n as u32 * 2 + 1;
            let mut both = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head);
            both.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            both
        })
        .await?;
    assert_eq!(came, Came::GoAway(CALM));
    assert!(house.served() < 2_000, "{} requests got through", house.served());
    others_are_served(&house).await;
    Ok(())
}

/// "MadeYouReset": frames that are wrong in a way for which the stream, not the connection, is to blame.
async fn row_2_resets_that_we_are_made_to_send_count_too_cve_2025_8671(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let head = head("/sleep/100000");
    let came = raw(&house)
        .await?
        .flood(100_000, move |n| {
            let stream = n as u32 * 2 + 1;
            let mut both = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head);
            // A window that grows by nothing (RFC 9113 §6.9).
            both.extend(frame(kind::WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
            both
        })
        .await?;
    assert!(matches!(came, Came::GoAway(_)), "{came:?}");
    others_are_served(&house).await;
    Ok(())
}

async fn row_3_endless_continuations_end_the_connection_cve_2024_30255(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let first = frame(kind::HEADERS, END_STREAM, 1, &head("/"));
    let more = frame(kind::CONTINUATION, 0, 1, &frames::block(&[("x", &[b'y'; 1_000])]));
    raw(&house)
        .await?
        .flood(
            1_000_000,
            move |n| if n == 0 { first.clone() } else { more.clone() },
        )
        .await?;
    others_are_served(&house).await;
    Ok(())
}

/// "HTTP/2 bomb": one large field is put into the table once and named again and again.
async fn row_4_a_small_head_that_unpacks_to_a_large_one_is_refused_cve_2026_10725(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    for name in ["x-bomb", "cookie"] {
        let mut raw = raw(&house).await?;
        let mut block = head("/");
        // A literal with incremental indexing (RFC 7541 §6.2.1): it becomes entry 62.
        block.push(0x40);
        frames::integer(&mut block, 0, 7, name.len());
        block.extend_from_slice(name.as_bytes());
        frames::integer(&mut block, 0, 7, 3_000);
        block.extend_from_slice(&[b'y'; 3_000]);
        // 10,000 bytes that stand for 30 MB.
        block.resize(block.len() + 10_000, 0x80 | 62);
        raw.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block))
            .await?;
        let came = raw.outcome(1).await?;
        assert!(came.is_refusal(), "{name}: {came:?}");
    }
    assert_eq!(house.served(), 0);
    others_are_served(&house).await;
    Ok(())
}

async fn row_5_more_names_than_a_map_can_hold_are_refused(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let mut raw = raw(&house).await?;
    let mut block = head("/");
    for n in 0..25_000 {
        block.extend(frames::block(&[(&format!("x{n}"), b"")]));
    }
    let mut chunks = block.chunks(16_000);
    let mut bytes = frame(kind::HEADERS, END_STREAM, 1, chunks.next().unwrap_or_default());
    for chunk in chunks {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, chunk));
    }
    bytes.extend(frame(kind::CONTINUATION, END_HEADERS, 1, &[]));
    // The connection may be gone before everything is written.
    let _ = raw.send(&bytes).await;
    let came = raw.outcome(1).await?;
    assert!(came.is_refusal(), "{came:?}");
    assert_eq!(house.served(), 0);
    others_are_served(&house).await;
    Ok(())
}

async fn row_6_endless_empty_data_ends_the_connection_rustsec_2026_0258(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let mut fields = frames::get("reviews:9080", "/sleep/100000").to_vec();
    fields[0].1 = b"POST";
    let first = frame(kind::HEADERS, END_HEADERS, 1, &frames::block(&fields));
    let empty = frame(kind::DATA, 0, 1, &[]).repeat(100);
    raw(&house)
        .await?
        .flood(
            100_000,
            move |n| if n == 0 { first.clone() } else { empty.clone() },
        )
        .await?;
    others_are_served(&house).await;
    Ok(())
}

async fn row_7_floods_of_control_frames_do_no_harm_cve_2019_9512_9515(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let priority = frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    let window = frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    for flood in [frame(kind::PING, 0, 0, &[7; 8]), settings, priority, window] {
        // Nothing is read of what comes back, so whoever answers everything must keep it all.
        let mut stream = house.knock().await?;
        stream.write_all(frames::PREFACE).await?;
        stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await?;
        let bytes = flood.repeat(1_000);
        for _ in 0..200 {
            let written = tokio::time::timeout(Duration::from_millis(200), stream.write_all(&bytes)).await;
            if !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
        others_are_served(&house).await;
    }
    Ok(())
}

async fn row_8_frames_for_closed_streams_do_not_pile_up_rustsec_2024_0003(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    raw(&house)
        .await?
        .flood(100_000, |n| {
            let stream = n as u32 * 2 + 1;
            // Data on a stream that was reset, each wanting an answer that nobody reads.
            let mut all = frame(kind::HEADERS, END_HEADERS, stream, &head("/sleep/100000"));
            all.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            all.extend(frame(kind::DATA, 0, stream, &[0; 64]));
            all.extend(frame(kind::HEADERS, END_HEADERS, stream, &head("/")));
            all
        })
        .await?;
    others_are_served(&house).await;
    Ok(())
}

async fn row_10_a_length_that_the_body_does_not_have_is_refused_cve_2026_73513(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let fields = |length: &'static [u8]| {
        let mut fields = frames::get("reviews:9080", "/sink").to_vec();
        fields[0].1 = b"POST";
        fields.push(("content-length", length));
        frames::block(&fields)
    };
    let mut raw = raw(&house).await?;
    raw.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &fields(b"5")))
        .await?;
    assert!(raw.outcome(1).await?.is_refusal(), "a length without a body");
    for (stream, data) in [(3, &b"1234"[..]), (5, b"123456")] {
        raw.send(&frame(kind::HEADERS, END_HEADERS, stream, &fields(b"5")))
            .await?;
        raw.send(&frame(kind::DATA, END_STREAM, stream, data)).await?;
        assert!(
            raw.outcome(stream).await?.is_refusal(),
            "five bytes that are {}",
            data.len()
        );
    }
    // Trailers end a stream, or are none.
    raw.send(&frame(kind::HEADERS, END_HEADERS, 7, &fields(b"5")))
        .await?;
    raw.send(&frame(
        kind::HEADERS,
        END_HEADERS,
        7,
        &frames::block(&[("x", b"y")]),
    ))
    .await?;
    assert!(raw.outcome(7).await?.is_refusal(), "trailers without an end");
    others_are_served(&house).await;
    Ok(())
}
