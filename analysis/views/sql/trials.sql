-- The state of every trial of the grid, and the provenance of its numbers.
--
-- reads    staging.plan(trial_id, cell_id, seed, the paths of the config that differ)
--          staging.fixed(the other paths of the config; one row)
--          staging.ends(trial_id, pack_id, attempt, number, status, last_step, steps, error, wall_s)
--          staging.members(trial_id, number)
--          staging.attempts(claim, number, pack_id, attempt, latest, running, pack_size, host,
--                           device, started_at, horizon, stops, git_commit, dirty, versions)
--          staging.progress(trial_id, step)
-- params   $config  the config: one struct per part, everything else unchanged
-- grain    one row per trial of the plan
-- columns  trial_id     text
--          cell_id      text
--          seed         int
--          status       text; pending, running, generalized, censored, diverged or failed
--          task         struct; null, like every part, where the trainable has no such part
--          model        struct
--          regularizer  struct
--          selection    struct
--          optimizer    struct
--          ...          the other fields of the trainable's config
--          steps        int, optimizer steps; taken so far, or until the trial's end
--          last_step    int, optimizer steps; last logged step, null before the first
--          stop_reason  text; generalized, horizon, diverged or failed; null while not ended
--          error        text; traceback of a failed trial
--          git_commit   text; this and the columns below describe the attempt that ended the
--                       trial, or else its latest attempt; null before the first attempt
--          dirty        text; hash of the uncommitted changes, null if there were none
--          versions     map
--          host         text
--          device       text
--          pack_id      text
--          pack_size    int
--          attempt      int
--          started_at   timestamp, UTC
--          wall_s       float, seconds from started_at to the trial's end; null before it

-- Two statements: the table `staging.trials` is computed once, when the views are
-- opened; the view `trials` adds the config and the provenance to it. A new column is defined
-- here: in the view if it follows from columns that are there, else in the table and the view.

create table staging.trials as
with ended as (
    select e.*, a.number as pack, a.claim
    from staging.ends as e
    join staging.attempts as a on a.pack_id = e.pack_id and a.attempt = e.attempt
    -- a trial that another pack carried on has several ends: the longest counts
    qualify row_number() over (
        partition by e.trial_id order by e.steps desc, e.number desc
    ) = 1
),
claimed as (
    select trial_id, max(a.claim) as claim
    from staging.members as l
    join staging.attempts as a on a.number = l.number and a.latest
    group by trial_id
),
states as (
    select
        e.* exclude (trial_id, claim),
        t.trial_id,
        coalesce(a.running and a.number is distinct from e.pack, false) as running,
        e.trial_id is not null and not running as over,
        if(over, e.claim, t.claim) as claim
    from claimed as t
    join staging.attempts as a on a.claim = t.claim
    left join ended as e on e.trial_id = t.trial_id
)
select
    p.*,
    case when s.running then 'running' else coalesce(s.status, 'pending') end as status,
    coalesce(greatest(s.steps, g.step), 0) as steps,
    greatest(if(s.last_step < 0, null, s.last_step), g.step) as last_step,
    case
        when s.over is not true then null
        when s.status = 'failed' then 'failed'
        when s.status = 'generalized' and (a.stops.after_generalization or s.steps < a.horizon)
            then 'generalized'
        when s.status = 'diverged' and (a.stops.diverged or s.steps < a.horizon) then 'diverged'
        else 'horizon'
    end as stop_reason,
    if(s.over, s.error, null) as error,
    if(s.over, s.wall_s, null) as wall_s,
    s.claim
from staging.plan as p
left join states as s on s.trial_id = p.trial_id
left join staging.progress as g on g.trial_id = p.trial_id
left join staging.attempts as a on a.claim = s.claim;

create view trials as
select
    t.trial_id, t.cell_id, t.seed, t.status, $config, t.steps, t.last_step, t.stop_reason, t.error,
    a.git_commit, a.dirty, a.versions, a.host, a.device, a.pack_id, a.pack_size, a.attempt,
    a.started_at, t.wall_s
from staging.trials as t
cross join staging.fixed as f
left join staging.attempts as a on a.claim = t.claim;
