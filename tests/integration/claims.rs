//! Names of producers whose bearers ask to keep them, as claims on topics do.

use std::time::Duration;

use kafkeep::kafka::{Client, Cluster, Renewal, Retry, TransactionalProducer};
use tokio::runtime::Runtime;

use crate::testbed::{Broker, Fault, FaultProxy, Properties, Release};

/// Gives up fast: a silent broker is silent for a sixth of it.
const PATIENCE: Retry = Retry {
    initial: Duration::from_millis(100),
    max: Duration::from_millis(500),
    deadline: Duration::from_secs(12),
};

async fn bearer(server: String) -> TransactionalProducer {
    let client = Client::connect(Cluster::new(vec![server]), PATIENCE).await;
    let client = client.unwrap();
    let name = client.transactional_producer("the.name", Duration::from_secs(60));
    name.await.unwrap()
}

#[test]
fn a_lost_answer_is_not_taken_for_another_bearer_of_the_name() {
    let proxy = FaultProxy::start();
    let properties = Properties::default().listener_behind("PROXIED", &proxy.address());
    let broker = Broker::start(Release::V4_1, properties);
    proxy.lead_to(&broker.listener("PROXIED"));
    Runtime::new().unwrap().block_on(async {
        let mut bearer = bearer(proxy.address()).await;
        assert_eq!(bearer.renew().await.unwrap(), Renewal::Kept);
        let before = bearer.identity();

        // The coordinator that gave the lost answer knows the epoch before.
        loses_an_answer(&proxy, &mut bearer).await;
        assert_eq!(answered(&mut bearer).await, Renewal::Kept);
        assert_ne!(bearer.identity(), before);

        // One that reads its log does not.
        loses_an_answer(&proxy, &mut bearer).await;
        broker.kill();
        broker.start_again();
        assert_eq!(answered(&mut bearer).await, Renewal::Unknown);
    });
}

#[test]
fn whose_name_is_taken_learns_it_also_from_a_coordinator_that_was_restarted() {
    let broker = Broker::start(Release::V4_1, Properties::default());
    Runtime::new().unwrap().block_on(async {
        let mut older = bearer(broker.address()).await;
        let mut newer = bearer(broker.address()).await;
        broker.kill();
        broker.start_again();
        // What a broker that is starting answers says nothing of the name.
        assert_eq!(answered(&mut newer).await, Renewal::Kept);
        assert_eq!(answered(&mut older).await, Renewal::Taken);
    });
}

/// It learns who the coordinator is, and not what that answers.
async fn loses_an_answer(proxy: &FaultProxy, bearer: &mut TransactionalProducer) {
    proxy.set(Fault::DropAnswersBeyond(1));
    bearer.renew().await.unwrap_err();
    proxy.set(Fault::None);
    proxy.reset_all();
}

/// What becomes of the name, once the cluster answers again.
async fn answered(bearer: &mut TransactionalProducer) -> Renewal {
    for _ in 0..100 {
        match bearer.renew().await {
            Ok(renewal) => return renewal,
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
    panic!("the cluster answers nothing")
}
