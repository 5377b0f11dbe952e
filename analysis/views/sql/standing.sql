-- How every trial of the grid stands: the table behind the view `trials`.
--
-- reads    facts.plan(trial_id, cell_id, seed, those paths of the config that differ)
--          facts.ends(trial_id, pack_id, attempt, number, status, last_step, steps, error, wall_s)
--          facts.listed(trial_id, number)
--          facts.attempts(claim, number, pack_id, attempt, latest, running, horizon, stops)
--          facts.progress(trial_id, step)
-- grain    one row per trial of the plan
-- columns  ...          those of facts.plan
--          status       text; these as in trials.sql
--          steps        int
--          last_step    int
--          stop_reason  text
--          error        text
--          wall_s       float
--          claim        int; the attempt that ended it, or that is or was last at work on it

with ended as (
    select e.*, a.number as pack, a.claim
    from facts.ends as e
    join facts.attempts as a on a.pack_id = e.pack_id and a.attempt = e.attempt
    $last
),
taken as (
    select trial_id, max(a.claim) as claim
    from facts.listed as l
    join facts.attempts as a on a.number = l.number and a.latest
    group by trial_id
),
stand as (
    select
        e.* exclude (trial_id, claim),
        t.trial_id,
        coalesce(a.running and a.number is distinct from e.pack, false) as running,
        e.trial_id is not null and not running as over,
        if(over, e.claim, t.claim) as claim
    from taken as t
    join facts.attempts as a on a.claim = t.claim
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
from facts.plan as p
left join stand as s on s.trial_id = p.trial_id
left join facts.progress as g on g.trial_id = p.trial_id
left join facts.attempts as a on a.claim = s.claim
