-- The first logged steps at which trials reach a multiple of their own best value.
--
-- Null where that value first occurs in the last logged row: the trial was still improving. A
-- trial that hasn't ended has no row: nothing is known of it, not even what its steps exceed.
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
-- params   $trials       the trials
--          $train_value  column of the train metric
--          $test_value   column of the test metric
--          $rising       whether the metric is better when larger
--          $train        by what the best train value is multiplied
--          $test         by what the best test value is multiplied
--          $asked        false where no row is wanted
-- grain    one row per trial that has ended with a logged step
-- columns  trial_id   text
--          t1         int, optimizer steps; null if it isn't known
--          t2         int, optimizer steps; null if it isn't known
--          last_step  int, optimizer steps; last logged one
--          logged     int; logged steps
--          digest     int; fingerprint of them, as in staging.logged

with curves as (
    select trial_id, step, $train_value as train_value, $test_value as test_value
    from metrics
    where $asked and trial_id in (
        select trial_id from $trials where status in ('generalized', 'censored', 'diverged')
    )
),
bests as (
    select
        trial_id,
        coalesce(
            max(train_value) filter ($rising), min(train_value) filter (not $rising)
        ) as train_best,
        coalesce(
            max(test_value) filter ($rising), min(test_value) filter (not $rising)
        ) as test_best,
        max(step) filter (train_value is not null) as train_last,
        max(step) filter (test_value is not null) as test_last,
        max(step) as last_step
    from curves
    group by trial_id
)
select
    trial_id,
    case when min(step) filter (train_value = train_best) < any_value(train_last) then
        min(step) filter (if(
            $rising, train_value >= $train * train_best, train_value <= $train * train_best
        ))
    end as t1,
    case when min(step) filter (test_value = test_best) < any_value(test_last) then
        min(step) filter (if(
            $rising, test_value >= $test * test_best, test_value <= $test * test_best
        ))
    end as t2,
    any_value(last_step) as last_step,
    count(*) as logged,
    bit_xor(hash(step)) as digest
from curves
join bests using (trial_id)
group by trial_id
