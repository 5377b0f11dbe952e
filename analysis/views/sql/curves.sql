-- The criterion's metrics of some trials, and nothing else of their rows.
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
-- params   $train_value  column of the train metric
--          $test_value   column of the test metric
--          $asked        false where no row is wanted
--          $of           condition on trial_id
-- grain    one row per (trial, logged step)
-- columns  trial_id     text
--          step         int, optimizer steps
--          train_value  float
--          test_value   float

select trial_id, step, $train_value as train_value, $test_value as test_value
from metrics
where $asked and $of
