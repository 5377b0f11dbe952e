-- When every trial memorized (t1) and generalized (t2), by one criterion.
--
-- `sweeper.criterion` defines the rules by which steps are found. The true step lies in
-- (lower end, t]. Logged steps are the same for all trials, so a small table has the lower ends.
-- Only trials that logged other steps, or a value that isn't finite, are read again.
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
--          staging.logged(step, place, digest, before): the store's logged steps, how many there
--          are up to each, the fingerprint of these, the one before
-- params   $trials       the trials
--          $firsts       the steps: the query of firsts.sql, hold.sql or stable.sql
--          $train_value  column of the train metric
--          $test_value   column of the test metric
--          $gap          smallest delay that is called grokking, in optimizer steps
-- grain    one row per trial
-- columns  trial_id   text
--          t1         int, optimizer steps; null if not reached, or if that isn't known
--          t2         int, optimizer steps; null if not reached, or if that isn't known
--          delay      int, optimizer steps; at least 0; null without t1 and if diverged
--          censored   bool; whether the delay is only known to exceed that number
--          last_step  int, optimizer steps; last logged one; null while the rule can't be
--                     applied
--          phase      text; null while the trial may still change it, or if it failed
--          t1_lower   int, optimizer steps; last logged step before t1 with a finite value; null
--                     without t1 or without such a step
--          t2_lower   int, optimizer steps; likewise
--          t1_after   int, optimizer steps; last logged step that t1 is known to exceed, where t1
--                     is null; null where nothing is known
--          t2_after   int, optimizer steps; likewise
--          estimate   float, optimizer steps; the delay between the middles of both intervals, on
--                     the scale of their logarithm; at least the gap where the phase is grokking,
--                     below it where it is comprehension; null where delay is null or censored

with firsts as (
$firsts
),
others as (
    select f.trial_id, f.t1, f.t2
    from firsts as f
    left join staging.logged as g
        on g.step = f.last_step and g.place = f.logged and g.digest = f.digest
    where f.gaps or (g.step is null and (f.t1 is not null or f.t2 is not null))
),
lowers as (
    select
        m.trial_id,
        max(m.step) filter (isfinite(m.train_value)) as train_last,
        max(m.step) filter (isfinite(m.test_value)) as test_last,
        max(m.step) filter (m.step < f.t1 and isfinite(m.train_value)) as t1_lower,
        max(m.step) filter (m.step < f.t2 and isfinite(m.test_value)) as t2_lower
    from (
        select trial_id, step, $train_value as train_value, $test_value as test_value
        from metrics
        where trial_id in (select trial_id from others)
    ) as m
    join others as f on f.trial_id = m.trial_id
    group by m.trial_id
),
found as (
    select
        r.trial_id,
        f.t1,
        f.t2,
        case
            when f.t1 is not null then null
            when f.plain then if(w.trial_id is null, f.last_step, w.train_last)
            else f.t1_past
        end as t1_after,
        case
            when f.t2 is not null then null
            when f.plain then if(w.trial_id is null, f.last_step, w.test_last)
            else f.t2_past
        end as t2_after,
        case
            when r.status = 'diverged' then null
            when f.t1 is null then null
            when f.t2 is null then greatest(0, coalesce(t2_after, 0) - f.t1)
            else greatest(0, f.t2 - f.t1)
        end as delay,
        f.t1 is not null and f.t2 is null and r.status <> 'diverged' as censored,
        f.last_step,
        case
            when r.status = 'diverged' then 'diverged'
            when f.t2 - f.t1 >= $gap then 'grokking'
            when f.t2 - f.t1 < $gap then 'comprehension'
            when r.status not in ('generalized', 'censored') then null
            when f.t1 is not null then 'memorization'
            when f.t2 is not null then 'generalized_only'
            else 'confusion'
        end as phase,
        if(w.trial_id is null, a.before, w.t1_lower) as t1_lower,
        if(w.trial_id is null, b.before, w.t2_lower) as t2_lower
    from $trials as r
    left join firsts as f using (trial_id)
    left join lowers as w using (trial_id)
    left join staging.logged as a on a.step = f.t1
    left join staging.logged as b on b.step = f.t2
)
select
    * exclude (between, t1_after, t2_after),
    t1_after,
    t2_after,
    case phase
        when 'grokking' then greatest(between, $gap)
        when 'comprehension' then greatest(0, least(between, $gap - 1))
    end as estimate
from (
    select
        *,
        middle(t2_lower, t2) - middle(t1_lower, t1) as between
    from found
)
