-- When every trial memorized (t1) and generalized (t2), by one criterion.
--
-- t1 is the first logged step at which the train criterion holds, t2 likewise for test.
-- Accuracies hold at or above their threshold, all other metrics at or below; null never holds.
-- The true step lies in (lower end, t].
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
-- params   $trials       the trials
--          $train_value  column of the train metric
--          $test_value   column of the test metric
--          $rising       whether the metric is better when larger
--          $train        threshold of t1, in units of the metric
--          $test         threshold of t2, in units of the metric
--          $gap          smallest delay that is called grokking, in optimizer steps
-- grain    one row per trial
-- columns  trial_id   text
--          t1         int, optimizer steps; null if never reached
--          t2         int, optimizer steps; null if never reached
--          delay      int, optimizer steps; at least 0; null without t1 and if diverged
--          censored   bool; whether the delay is only known to exceed that number
--          last_step  int, optimizer steps; last logged one, where a null is censored
--          phase      text; null while the trial may still change it, or if it failed
--          t1_lower   int, optimizer steps; logged step before t1; null without it or if t1 = 0
--          t2_lower   int, optimizer steps; logged step before t2; null without it or if t2 = 0

with firsts as (
    select
        trial_id,
        min(step) filter (
            isfinite(train_value) and if($rising, train_value >= $train, train_value <= $train)
        ) as t1,
        min(step) filter (
            isfinite(test_value) and if($rising, test_value >= $test, test_value <= $test)
        ) as t2,
        max(step) as last_step
    from (
        select trial_id, step, $train_value as train_value, $test_value as test_value
        from metrics
    )
    group by trial_id
),
lowers as (
    select
        m.trial_id,
        max(m.step) filter (m.step < f.t1) as t1_lower,
        max(m.step) filter (m.step < f.t2) as t2_lower
    from metrics as m
    join firsts as f on f.trial_id = m.trial_id and m.step < greatest(f.t1, f.t2)
    group by m.trial_id
)
select
    r.trial_id,
    f.t1,
    f.t2,
    case
        when r.status = 'diverged' then null
        when f.t2 is null then f.last_step - f.t1
        when f.t1 is not null then greatest(0, f.t2 - f.t1)
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
    w.t1_lower,
    w.t2_lower
from $trials as r
left join firsts as f using (trial_id)
left join lowers as w using (trial_id)
