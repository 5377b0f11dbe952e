-- Curves beside the thresholds that each trial sets itself: multiples of its own best values.
--
-- A threshold is null where the best value first occurs in the last logged row, because the trial
-- was still improving, and where the best value doesn't meet the floor: the trial learned too
-- little to call it good.
--
-- reads    $curves: the query for rows (trial_id, step, train_value, test_value)
-- params   $rising  whether the metric is better when larger
--          $train   by what the best train value is multiplied
--          $test    by what the best test value is multiplied
--          $floor   share of the first value that the best has to come down to; for a rising
--                   metric the share of the way to 1 that may be left
-- grain    one row per (trial, logged step)
-- columns  trial_id         text
--          step             int, optimizer steps
--          train_value      float
--          test_value       float
--          train_threshold  float; null if it isn't known
--          test_threshold   float; null if it isn't known

with curves as (
$curves
),
bests as (
    select
        trial_id,
        if($rising, max(train_value) filter (isfinite(train_value)),
            min(train_value) filter (isfinite(train_value))) as train_best,
        if($rising, max(test_value) filter (isfinite(test_value)),
            min(test_value) filter (isfinite(test_value))) as test_best,
        arg_min(train_value, step) filter (isfinite(train_value)) as train_first,
        arg_min(test_value, step) filter (isfinite(test_value)) as test_first,
        max(step) filter (isfinite(train_value)) as train_last,
        max(step) filter (isfinite(test_value)) as test_last
    from curves
    group by trial_id
),
good as (
    select
        trial_id,
        train_best,
        test_best,
        if($rising, train_best >= 1.0 - $floor * (1.0 - train_first),
            train_best <= train_first - (1.0 - $floor) * abs(train_first)) as train_good,
        if($rising, test_best >= 1.0 - $floor * (1.0 - test_first),
            test_best <= test_first - (1.0 - $floor) * abs(test_first)) as test_good,
        train_last,
        test_last
    from bests
),
settled as (
    select
        trial_id,
        min(step) filter (train_value = train_best) < any_value(train_last) as train_settled,
        min(step) filter (test_value = test_best) < any_value(test_last) as test_settled
    from curves
    join good using (trial_id)
    group by trial_id
)
select
    trial_id,
    step,
    train_value,
    test_value,
    if(train_settled and train_good, $train * train_best, null) as train_threshold,
    if(test_settled and test_good, $test * test_best, null) as test_threshold
from curves
join good using (trial_id)
join settled using (trial_id)
