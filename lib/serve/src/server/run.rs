//! Runs a server from its configuration: listens, applies new configurations, and drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::auth::{Access, Port};
use super::error::StartError;
use super::grpc;
use super::listen::{Connections, Listener, acceptor};
use super::routes;
use super::state::{Server, Shared};
use crate::models::Models;
use crate::runtime::JournalSender;
use crate::runtime::membership::Embed;
use parm_config::Config;

/// The most connections at the address `admin`.
const ADMIN_CONNECTIONS: usize = 256;

/// Sees that the files of keys and certificates are there, and are what they should be.
///
/// # Errors
/// The field of the configuration, and what is wrong with its file.
pub(crate) fn check_files(config: &Config) -> Result<(), (&'static str, StartError)> {
    Access::of(config).map_err(|problem| ("keys", problem))?;
    let tls = config.tls.as_ref().map(acceptor).transpose();
    tls.map(drop).map_err(|problem| ("tls", problem))
}

/// A server that listens.
pub struct Running {
    server: Arc<Server>,
    /// Its addresses.
    pub addresses: Addresses,
    listeners: Vec<(Listener, Connections)>,
    stop: watch::Sender<bool>,
    tls: watch::Sender<Option<TlsAcceptor>>,
    drain: Duration,
}

/// The addresses of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For HTTP.
    pub http: Option<SocketAddr>,
    /// For gRPC.
    pub grpc: Option<SocketAddr>,
    /// For metrics, the status page and the repository.
    pub admin: Option<SocketAddr>,
}

/// A command to a running server.
#[derive(Debug)]
pub enum Order {
    /// Apply this configuration.
    Reload(Box<Config>),
    /// Answer open requests, and stop.
    Stop,
}

impl Running {
    /// Binds the addresses of a configuration, and starts to load its models.
    ///
    /// # Errors
    /// An address that cannot be bound, or a file of keys or certificates that cannot be read.
    pub async fn start(config: Config, embed: Arc<dyn Embed>) -> Result<Self, StartError> {
        Self::journaled(config, embed, None).await
    }

    /// As [`start`](Self::start), with the journal of the first model that is loaded.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn journaled(
        config: Config,
        embed: Arc<dyn Embed>,
        journal: Option<JournalSender>,
    ) -> Result<Self, StartError> {
        let access = Arc::new(Access::of(&config)?);
        let (tls, tls_now) = watch::channel(config.tls.as_ref().map(acceptor).transpose()?);
        let (stop, stopped) = watch::channel(false);
        let models = Models::new(config.limits.clone(), embed).with_journal(journal);
        let server = Arc::new(Server::new(models, config.limits.clone()));
        let shared = Shared { server: Arc::clone(&server), access };
        let mut addresses = Addresses { http: None, grpc: None, admin: None };
        let limits = Arc::new(config.limits);
        let connections = |most: usize| Connections {
            room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            budget: Arc::clone(&server.budget),
            limits: Arc::clone(&limits),
            tls: tls_now.clone(),
            stop: stopped.clone(),
        };
        // The admin address has connections of its own, so that clients cannot use them up.
        let (public, admin) = (connections(limits.connections), connections(ADMIN_CONNECTIONS));
        let mut listeners = Vec::new();
        let mut listen = async |address: SocketAddr, router: Router, connections: &Connections| {
            let bound = Listener::bind(address, router).await;
            let wrong = |error| StartError::Address { address, error };
            let listener = bound.map_err(wrong)?;
            let address = listener.address().map_err(wrong)?;
            listeners.push((listener, connections.clone()));
            Ok::<_, StartError>(address)
        };
        if let Some(address) = config.http {
            let mut router = routes::inference(shared.clone());
            if config.admin.is_none() {
                router = router.merge(routes::admin(shared.clone(), Port::Public));
            }
            addresses.http = Some(listen(address, routes::with_fallbacks(router), &public).await?);
        }
        if let Some(address) = config.admin {
            let router = routes::with_fallbacks(routes::admin(shared.clone(), Port::Admin));
            addresses.admin = Some(listen(address, router, &admin).await?);
        }
        if let Some(address) = config.grpc {
            addresses.grpc = Some(listen(address, grpc::routes(shared), &public).await?);
        }
        server.models.configure(config.models);
        let drain = Duration::from_millis(config.drain_ms);
        Ok(Self { server, addresses, listeners, stop, tls, drain })
    }

    /// Serves until [`Order::Stop`], then answers open requests. Returns false if the time for that was over.
    pub async fn serve(self, mut orders: tokio::sync::mpsc::Receiver<Order>) -> bool {
        let mut tasks = JoinSet::new();
        for (listener, connections) in self.listeners {
            tasks.spawn(listener.serve(connections));
        }
        while let Some(Order::Reload(config)) = orders.recv().await {
            match config.tls.as_ref().map(acceptor).transpose() {
                Ok(tls) => drop(self.tls.send_replace(tls)),
                Err(error) => tracing::error!(%error, "the old certificate stays"),
            }
            self.server.models.configure(config.models);
            tracing::info!("the configuration was reloaded");
        }
        tracing::info!("stopping");
        self.server.stop();
        self.stop.send_replace(true);
        let drained = async {
            self.server.models.drain().await;
            while tasks.join_next().await.is_some() {}
        };
        tokio::time::timeout(self.drain, drained).await.is_ok()
    }
}
