//! The end-to-end tests: real sockets, real mutual TLS, one module per subject.

/// Makes of each function that takes a `Shape` two tests: the policy in the workloads, and in a waypoint.
macro_rules! in_both_shapes {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_process() -> anyhow::Result<()> {
                    super::$name(inmesh_tests::kit::Shape::InProcess).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn through_a_waypoint() -> anyhow::Result<()> {
                    super::$name(inmesh_tests::kit::Shape::Waypoint).await
                }
            }
        )*
    };
}

/// Makes of each function that takes a `Door` three tests: a workload's, a waypoint's and a Gateway's.
macro_rules! at_every_door {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn of_a_workload() -> anyhow::Result<()> {
                    super::$name(inmesh_tests::kit::Door::Workload).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn of_a_waypoint() -> anyhow::Result<()> {
                    super::$name(inmesh_tests::kit::Door::Waypoint).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn of_a_gateway() -> anyhow::Result<()> {
                    super::$name(inmesh_tests::kit::Door::Gateway).await
                }
            }
        )*
    };
}

mod abuse;
mod access_logs;
mod advisories;
mod authz;
mod backend_tls;
mod binding;
mod bodies;
mod bookinfo;
mod cli;
mod config;
mod connections;
mod consult;
mod corpus;
mod cors;
mod decisions;
mod destination_tls;
mod differential;
mod embedding;
mod explain;
mod external_auth;
mod gateway;
mod grpc;
mod hygiene;
mod identity;
mod interop;
mod limits_beside_envoy;
mod live;
mod metrics;
mod mirrors;
mod pages;
mod peers;
mod permissive;
mod policy_tests;
mod pool;
mod processes;
mod prometheus;
mod proxy_headers;
mod rate_limits;
mod rbac;
mod recorded;
mod relay;
mod resilience;
mod retries;
mod routes;
mod scenarios;
mod sessions;
mod shedding;
mod standard_metrics;
mod streams;
mod swap;
mod tokens;
mod traces;
mod tunnels;
mod upgrades;
mod upstreams;
mod virtual_services;
