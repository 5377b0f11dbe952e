-- The first logged steps at which thresholds are reached.
--
-- Accuracies reach theirs at or above it, all other metrics at or below; null never does.
--
-- reads    metrics(trial_id, step, the two columns of the metric)
-- params   $train_value  column of the train metric
--          $test_value   column of the test metric
--          $rising       whether the metric is better when larger
--          $train        threshold of t1, in units of the metric
--          $test         threshold of t2, in units of the metric
--          $asked        false where no row is wanted
-- grain    one row per trial with a logged step
-- columns  trial_id   text
--          t1         int, optimizer steps; null if never reached
--          t2         int, optimizer steps; null if never reached
--          last_step  int, optimizer steps; last logged one
--          logged     int; logged steps
--          digest     int; fingerprint of them, as in staging.logged

select
    trial_id,
    min(step) filter (
        isfinite(train_value) and if($rising, train_value >= $train, train_value <= $train)
    ) as t1,
    min(step) filter (
        isfinite(test_value) and if($rising, test_value >= $test, test_value <= $test)
    ) as t2,
    max(step) as last_step,
    count(*) as logged,
    bit_xor(hash(step)) as digest
from (
    select trial_id, step, $train_value as train_value, $test_value as test_value
    from metrics
    where $asked
)
group by trial_id
