-- How every trial of the grid stands, and where its numbers come from.
--
-- reads    facts.plan(trial_id, cell_id, seed, the flat config)
--          facts.ends(trial_id, pack_id, attempt, number, status, last_step, steps, error, wall_s)
--          facts.listed(trial_id, pack_id, number)
--          facts.attempts(pack_id, attempt, latest, running, pack_size, host, device, started_at,
--                         horizon, stops, git_commit, dirty, versions)
--          facts.progress(trial_id, step)
-- params   $config  the config: one struct a part, everything else as it is
-- grain    one row per trial of the plan
-- columns  trial_id     text
--          cell_id      text
--          seed         int
--          status       text; pending, running, generalized, censored, diverged or failed
--          task         struct; like all parts null where the trainable has no such part
--          model        struct
--          regularizer  struct
--          selection    struct
--          optimizer    struct
--          ...          what else the trainable's config has
--          steps        int, optimizer steps; trained so far, or at its end
--          last_step    int, optimizer steps; last logged step, null before the first
--          stop_reason  text; generalized, horizon, diverged or failed; null while not ended
--          error        text; the traceback of a failed one
--          git_commit   text; provenance from here on: of the attempt that ended it, or that
--                       is or was last at work on it; null before the first
--          dirty        text; hash of the uncommitted changes, null where there were none
--          versions     map
--          host         text
--          device       text
--          pack_id      text
--          pack_size    int
--          attempt      int
--          started_at   timestamp, UTC
--          wall_s       float, seconds from started_at to the trial's end; null before

with ended as (
    select * from facts.ends
    qualify row_number() over (partition by trial_id order by steps desc, number desc) = 1
),
taken as (
    select l.trial_id, l.pack_id, a.attempt, a.running
    from facts.listed as l
    join facts.attempts as a on a.pack_id = l.pack_id and a.latest
    qualify row_number() over (partition by l.trial_id order by l.number desc) = 1
),
stand as (
    select
        p.trial_id,
        coalesce(t.running and t.pack_id is distinct from e.pack_id, false) as running,
        e.trial_id is not null and not running as over,
        if(over, e.pack_id, t.pack_id) as pack_id,
        if(over, e.attempt, t.attempt) as attempt
    from facts.plan as p
    left join ended as e using (trial_id)
    left join taken as t using (trial_id)
)
select
    p.trial_id,
    p.cell_id,
    p.seed,
    case when s.running then 'running' else coalesce(e.status, 'pending') end as status,
    $config,
    coalesce(greatest(e.steps, g.step), 0) as steps,
    greatest(if(e.last_step < 0, null, e.last_step), g.step) as last_step,
    case
        when not s.over then null
        when e.status = 'failed' then 'failed'
        when e.status = 'generalized' and (a.stops.after_generalization or e.steps < a.horizon)
            then 'generalized'
        when e.status = 'diverged' and (a.stops.diverged or e.steps < a.horizon) then 'diverged'
        else 'horizon'
    end as stop_reason,
    if(s.over, e.error, null) as error,
    a.git_commit, a.dirty, a.versions, a.host, a.device, s.pack_id, a.pack_size, s.attempt,
    a.started_at,
    if(s.over, e.wall_s, null) as wall_s
from facts.plan as p
join stand as s using (trial_id)
left join ended as e using (trial_id)
left join facts.progress as g using (trial_id)
left join facts.attempts as a on a.pack_id = s.pack_id and a.attempt = s.attempt
