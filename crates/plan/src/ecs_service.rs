//! The service scheduler: keeps the desired number of tasks, rolls deployments, and tells what it did.
//!
//! [`reconcile`] looks at one service and its groups and takes one step; it is run again when any of them changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::ecs::{Deployment, Rollout, Service, ServiceRevision, ServiceStatus};
use state::group::{Desired, StopCause, StopCode, TaskStatus};
use state::{ContainerGroup, Ids, TimeMs, Tx};

use crate::deployment::{self, Fitness, Plan, Primary, TaskView, World};
use crate::target_health::{self, Verdict};
use crate::{Next, Unplaced, breaker, events, garbage, images, service_task};

/// How long a service waits before it looks for room again.
const RETRY_PLACEMENT_MS: i64 = 1_000;

/// Begins a deployment where the service asks for one that is not there. For handlers, so that the answer of
/// CreateService and UpdateService shows it; [`reconcile`] does it as well.
pub fn ensure_deployment(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, key: &str) {
    let Some(service) = tx.get::<Service>(key) else { return };
    let mut service = Service::clone(&service);
    begin(tx, ids, now_ms, &mut service);
    tx.put(service);
}

/// Takes one step with a service.
pub fn reconcile(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, key: &str) -> Next {
    let Some(service) = tx.get::<Service>(key) else { return Next::IDLE };
    let mut service = Service::clone(&service);
    let next = match service.status {
        ServiceStatus::Active => keep(tx, ids, now_ms, key, &mut service),
        ServiceStatus::Draining => drain(tx, ids, now_ms, key, &mut service),
        ServiceStatus::Inactive => return garbage::inactive_service(tx, now_ms, key, &service),
    };
    tx.put(service);
    next
}

fn begin(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, service: &mut Service) {
    if service.status != ServiceStatus::Active {
        return;
    }
    if service.primary().is_none_or(|d| d.generation != service.generation) {
        for deployment in service.deployments.iter_mut().filter(|d| d.primary) {
            deployment.primary = false;
            deployment.updated_at_ms = now_ms;
        }
        let id = format!("ecs-svc/{}", ids.decimal(19));
        let revision_id = ids.decimal(19);
        tx.put(ServiceRevision {
            service: Service::key_of(&service.scope, &service.cluster, &service.name),
            id: revision_id.clone(),
            template: service.template.clone(),
            created_at_ms: now_ms,
            images: BTreeMap::new(),
            past: None,
        });
        let deployment = Deployment {
            rollout_reason: format!("ECS deployment {id} in progress."),
            id,
            generation: service.generation,
            primary: true,
            template: service.template.clone(),
            desired_count: service.desired_count,
            rollout: Rollout::InProgress,
            failed_tasks: 0,
            backoff_until_ms: now_ms,
            was_whole: false,
            revision_id,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        };
        service.deployments.insert(0, deployment);
        service.steady = false;
    }
    let desired = service.desired_count;
    if let Some(primary) = service.deployments.iter_mut().find(|d| d.primary)
        && primary.desired_count != desired
    {
        primary.desired_count = desired;
        primary.updated_at_ms = now_ms;
    }
}

/// One task of a service that is not over.
struct Live {
    key: String,
    group: Arc<ContainerGroup>,
    verdict: Verdict,
}

fn keep(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, key: &str, service: &mut Service) -> Next {
    begin(tx, ids, now_ms, service);
    service.deployments.iter().for_each(|deployment| images::resolve(tx, &service.scope, key, deployment));
    let mut failures = settle_ended(tx, key, now_ms);
    let (mut live, mut stopping) = observe(tx, key, service, now_ms);
    let mut next =
        live.iter().fold(Next::IDLE, |next, l| next.or(Next { again_at_ms: l.verdict.again_at_ms }));
    // What failed is counted before anything is planned, so that not one task too many is started.
    let failed = failed_in_rollout(service, &live);
    failures.extend(stop(tx, ids, now_ms, service, &live, &failed));
    live.retain(|l| !failed.contains(&l.key));
    stopping += failed.len() as u32;
    count(service, ids, now_ms, &failures);
    note_whole(service, &live);
    breaker::trip(service, ids, now_ms);
    forgive(service, &live, now_ms);
    let world = world(service, &live, stopping, now_ms);
    let waiting = service.deployments.iter().map(|d| d.backoff_until_ms).filter(|until| now_ms < *until);
    next = next.or(Next { again_at_ms: waiting.min() });
    let (step, room_missing) = act(tx, ids, now_ms, key, service, world);
    if room_missing {
        next = next.or(Next::at(now_ms + RETRY_PLACEMENT_MS));
    }
    let failures = stop(tx, ids, now_ms, service, &live, &step.stop);
    count(service, ids, now_ms, &failures);
    if step.stuck {
        let text = "was unable to stop or start tasks during a deployment because of the service deployment \
                    configuration. Update the minimumHealthyPercent or maximumPercent value and try again.";
        events::add_unless_repeated(service, ids, now_ms, text);
    }
    conclude(tx, ids, now_ms, key, service, &live, stopping);
    next
}

/// The live tasks of a service, and how many are being stopped.
fn observe(tx: &Tx, key: &str, service: &Service, now_ms: TimeMs) -> (Vec<Live>, u32) {
    let grace_s = service.health_check_grace_period_s.unwrap_or(0);
    let mut live = Vec::new();
    let mut stopping = 0;
    for group in tx.table::<ContainerGroup>().by_index("service", key).filter(|g| !g.is_stopped()) {
        if group.is_stopping() {
            stopping += 1;
            continue;
        }
        live.push(Live {
            key: ContainerGroup::key_of(&group.scope, &group.cluster, &group.id),
            group: group.clone(),
            verdict: target_health::judge(tx.snapshot(), group, grace_s, now_ms),
        });
    }
    (live, stopping)
}

/// Tasks of a deployment under way that failed their checks.
fn failed_in_rollout(service: &Service, live: &[Live]) -> Vec<String> {
    let Some(primary) = service.primary().filter(|d| d.rollout != Rollout::Completed) else {
        return Vec::new();
    };
    let failed = |l: &&Live| l.verdict.fitness == Fitness::Unhealthy && deployment_of(&l.group) == primary.id;
    live.iter().filter(failed).map(|l| l.key.clone()).collect()
}

/// A deployment that was replaced while all its tasks ran can be rolled back to, though its time was too short to become
/// COMPLETED: its service was stable as far as DescribeServices could tell.
fn note_whole(service: &mut Service, live: &[Live]) {
    let desired = service.desired_count as usize;
    for deployment in service.deployments.iter_mut().filter(|d| !d.primary && d.rollout != Rollout::Failed) {
        let runs =
            |l: &&Live| l.group.status() == TaskStatus::Running && deployment_of(&l.group) == deployment.id;
        deployment.was_whole |= live.iter().filter(runs).count() >= desired;
    }
}

/// Counts failures, given as the deployment of each.
fn count(service: &mut Service, ids: &mut Ids, now_ms: TimeMs, failures: &[String]) {
    let mut by_deployment: BTreeMap<&str, u32> = BTreeMap::new();
    for id in failures {
        *by_deployment.entry(id).or_default() += 1;
    }
    for (id, n) in by_deployment {
        breaker::count_failures(service, ids, now_ms, id, n);
    }
}

/// Tasks that ended by themselves: writing down that they are to stop is what counts each exactly once. Answers the
/// deployment of each.
fn settle_ended(tx: &mut Tx, key: &str, now_ms: TimeMs) -> Vec<String> {
    let ended = |g: &&Arc<ContainerGroup>| matches!(g.desired, Desired::Run) && g.is_stopping();
    let ended: Vec<_> =
        tx.table::<ContainerGroup>().by_index("service", key).filter(ended).cloned().collect();
    for group in &ended {
        let cause = group.observed.stop.clone().unwrap_or_else(|| StopCause {
            code: StopCode::TaskFailedToStart,
            reason: "Task failed to start".into(),
            at_ms: now_ms,
        });
        crate::stop(tx, &ContainerGroup::key_of(&group.scope, &group.cluster, &group.id), cause);
    }
    ended.iter().map(|group| deployment_of(group).to_owned()).collect()
}

/// Failures in a row end with a task that was started after them and became healthy. While a deployment is under way
/// nothing is forgiven: its breaker counts.
fn forgive(service: &mut Service, live: &[Live], now_ms: TimeMs) {
    for deployment in &mut service.deployments {
        let recovered = |l: &Live| {
            l.verdict.fitness == Fitness::Healthy
                && l.group.created_at_ms >= deployment.backoff_until_ms
                && deployment_of(&l.group) == deployment.id
        };
        if deployment.failed_tasks > 0
            && deployment.rollout == Rollout::Completed
            && live.iter().any(recovered)
        {
            deployment.failed_tasks = 0;
            deployment.updated_at_ms = now_ms;
        }
    }
}

fn deployment_of(group: &ContainerGroup) -> &str {
    group.task().service.as_ref().map_or("", |s| &s.deployment_id)
}

fn world(service: &Service, live: &[Live], stopping: u32, now_ms: TimeMs) -> World {
    let primary = service.primary();
    let id = primary.map_or("", |d| d.id.as_str());
    World {
        desired: service.desired_count,
        min_percent: service.deployment.minimum_healthy_percent,
        max_percent: service.deployment.maximum_percent,
        tasks: (live.iter())
            .map(|l| TaskView {
                key: l.key.clone(),
                primary: deployment_of(&l.group) == id,
                health: match l.verdict.fitness {
                    Fitness::Starting
                        if deployment_of(&l.group) != id && l.group.status() == TaskStatus::Running =>
                    {
                        Fitness::Unproven
                    }
                    fitness => fitness,
                },
                running: l.group.status() == TaskStatus::Running,
                zone: l.group.attachment().map(|a| a.availability_zone.clone()).unwrap_or_default(),
                created_at_ms: l.group.created_at_ms,
            })
            .collect(),
        primary: match primary.map(|d| (d.rollout, d.failed_tasks)) {
            Some((Rollout::Completed, _)) => Primary::Completed,
            Some((Rollout::Failed, _)) => Primary::Failed,
            Some((Rollout::InProgress, failed)) if failed > 0 => Primary::Failing,
            _ => Primary::Rolling,
        },
        backing_off: primary.is_some_and(|d| now_ms < d.backoff_until_ms),
        no_room: false,
        stopping,
        has_fallback: fallback(service).is_some_and(|d| d.backoff_until_ms <= now_ms),
    }
}

/// The deployment that is rolled back to.
fn fallback(service: &Service) -> Option<&Deployment> {
    service.deployments.iter().find(|d| !d.primary && d.was_whole)
}

/// Makes a plan and starts what it says. Where there is no room for all of it, what there is to stop grows by what makes
/// room. Answers the plan, and whether room was missing.
fn act(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    key: &str,
    service: &mut Service,
    mut world: World,
) -> (Plan, bool) {
    let mut step = deployment::plan(&world);
    let (started, unplaced) = start(tx, ids, now_ms, key, service, &step);
    let Some(unplaced) = unplaced else { return (step, false) };
    let text = format!("was unable to place a task{}", unplaced.as_event(service));
    events::add_unless_repeated(service, ids, now_ms, &text);
    world.tasks.retain(|t| !step.stop.contains(&t.key));
    world.tasks.extend(started);
    world.stopping += step.stop.len() as u32;
    world.no_room = true;
    step.stop.extend(deployment::plan(&world).stop);
    (step, true)
}

/// Starts what the plan says. Answers what was started, and why not more if a task could not be placed.
fn start(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    key: &str,
    service: &mut Service,
    step: &Plan,
) -> (Vec<TaskView>, Option<Unplaced>) {
    let wanted = [
        (true, service.primary().cloned(), step.start),
        (false, fallback(service).cloned(), step.start_fallback),
    ];
    let mut started = Vec::new();
    let mut failed = None;
    for (primary, deployment, count) in wanted {
        let Some(deployment) = deployment else { continue };
        for _ in 0..count {
            match service_task::launch(tx, ids, now_ms, key, service, &deployment) {
                Ok(id) => started.push(TaskView {
                    key: id,
                    primary,
                    health: Fitness::Starting,
                    running: false,
                    zone: String::new(),
                    created_at_ms: now_ms,
                }),
                Err(unplaced) => {
                    failed = Some(unplaced);
                    break;
                }
            }
        }
    }
    if !started.is_empty() {
        let tasks = events::tasks(started.iter().map(|t| t.key.as_str()));
        events::add(service, ids, now_ms, &format!("has started {} tasks: {tasks}.", started.len()));
        service.steady = false;
    }
    (started, failed)
}

/// Stops tasks. Answers the deployment of each that was stopped because it failed its checks.
fn stop(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    service: &mut Service,
    live: &[Live],
    keys: &[String],
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut stopped = Vec::new();
    for task in live.iter().filter(|l| keys.contains(&l.key)) {
        let id = deployment_of(&task.group);
        let reason = match &task.verdict.why {
            Some(ill) => {
                events::add(service, ids, now_ms, &ill.event);
                failures.push(id.to_owned());
                ill.stopped_reason.clone()
            }
            None => format!("Scaling activity initiated by (deployment {id})"),
        };
        let cause = StopCause { code: StopCode::ServiceSchedulerInitiated, reason, at_ms: now_ms };
        crate::stop(tx, &task.key, cause);
        stopped.push(task.group.id.as_str());
    }
    service.steady &= stopped.is_empty();
    events::stopped(service, ids, now_ms, &stopped);
    failures
}

/// Whether the service is where it wants to be, and what that means for its deployments.
fn conclude(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    key: &str,
    service: &mut Service,
    live: &[Live],
    stopping: u32,
) {
    let in_place = |l: &&Live| {
        l.verdict.fitness == Fitness::Healthy
            && service.primary().is_some_and(|d| deployment_of(&l.group) == d.id)
    };
    // Counted anew: this pass may have started and stopped tasks.
    let present = || tx.table::<ContainerGroup>().by_index("service", key).filter(|g| !g.is_stopped());
    let settled = live.iter().filter(in_place).count() == service.desired_count as usize
        && present().filter(|g| !g.is_stopping()).count() == service.desired_count as usize
        && live.len() == service.desired_count as usize
        && stopping == 0;
    let failed = service.primary().is_some_and(|d| d.rollout == Rollout::Failed);
    let steady = settled && !failed;
    if steady {
        complete(tx, service, ids, now_ms);
        if !service.steady {
            events::add(service, ids, now_ms, "has reached a steady state.");
        }
    }
    service.steady = steady;
    count_old(tx, now_ms, service);
}

/// Takes a deployment that the service is done with into its history.
fn let_go(tx: &mut Tx, service: &Service, mut deployment: Deployment) {
    let key = format!(
        "{}/{}",
        Service::key_of(&service.scope, &service.cluster, &service.name),
        deployment.revision_id
    );
    deployment.desired_count = 0;
    tx.update::<ServiceRevision>(&key, |revision| revision.past = Some(deployment));
}

fn complete(tx: &mut Tx, service: &mut Service, ids: &mut Ids, now_ms: TimeMs) {
    let replaced: Vec<_> = service.deployments.extract_if(.., |d| !d.primary).collect();
    replaced.into_iter().for_each(|deployment| let_go(tx, service, deployment));
    let Some(primary) = service.deployments.first_mut().filter(|d| d.rollout == Rollout::InProgress) else {
        return;
    };
    primary.rollout = Rollout::Completed;
    primary.rollout_reason = format!("ECS deployment {} completed.", primary.id);
    primary.was_whole = true;
    primary.failed_tasks = 0;
    primary.updated_at_ms = now_ms;
    let text = format!("(deployment {}) deployment completed.", primary.id);
    events::add(service, ids, now_ms, &text);
}

/// Deployments being replaced want what they still have; those with nothing left go, but for the one to go back to.
fn count_old(tx: &mut Tx, now_ms: TimeMs, service: &mut Service) {
    let target = fallback(service).map(|d| d.id.clone());
    let is_over = |deployment: &mut Deployment| {
        if deployment.primary {
            return false;
        }
        let groups = || tx.table::<ContainerGroup>().by_index("deployment", &deployment.id);
        let live = groups().filter(|g| !g.is_stopping()).count() as u32;
        let present = groups().any(|g| !g.is_stopped());
        if deployment.desired_count != live {
            deployment.desired_count = live;
            deployment.updated_at_ms = now_ms;
        }
        !present && target.as_ref() != Some(&deployment.id)
    };
    let over: Vec<_> = service.deployments.extract_if(.., is_over).collect();
    over.into_iter().for_each(|deployment| let_go(tx, service, deployment));
}

fn drain(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, key: &str, service: &mut Service) -> Next {
    let groups: Vec<_> = tx.table::<ContainerGroup>().by_index("service", key).cloned().collect();
    let mut stopped = Vec::new();
    for group in groups.iter().filter(|g| !g.is_stopped() && matches!(g.desired, Desired::Run)) {
        let cause = StopCause {
            code: StopCode::ServiceSchedulerInitiated,
            reason: format!("Scaling activity initiated by (deployment {})", deployment_of(group)),
            at_ms: now_ms,
        };
        crate::stop(tx, &ContainerGroup::key_of(&group.scope, &group.cluster, &group.id), cause);
        stopped.push(group.id.as_str());
    }
    events::stopped(service, ids, now_ms, &stopped);
    service.steady = false;
    for deployment in &mut service.deployments {
        deployment.desired_count = 0;
    }
    if groups.iter().all(|g| g.is_stopped()) {
        service.status = ServiceStatus::Inactive;
        service.deleted_at_ms = Some(now_ms);
        let over = std::mem::take(&mut service.deployments);
        over.into_iter().for_each(|deployment| let_go(tx, service, deployment));
    }
    Next::IDLE
}
