// Kafka's own AdminClient, told what to do by lines of standard input; each is answered by one line: what was found, or
// "failed: NAME" of the exception. Driven by admin_client.py.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.PartitionReassignment;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

public final class AdminCalls {
    private final Admin admin;

    private AdminCalls(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "request.timeout.ms", 10000,
            "default.api.timeout.ms", 20000);
        try (Admin admin = Admin.create(settings)) {
            AdminCalls calls = new AdminCalls(admin);
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                System.out.println(calls.answer(line.split(" ")));
            }
        }
    }

    private String answer(String[] words) {
        try {
            return run(words);
        } catch (ExecutionException e) {
            return "failed: " + e.getCause().getClass().getSimpleName();
        } catch (Exception e) {
            return "failed: " + e.getClass().getSimpleName() + " " + e.getMessage();
        }
    }

    private String run(String[] w) throws Exception {
        switch (w[0]) {
            case "describe":
                return describe(admin.describeTopics(List.of(w[1])).allTopicNames().get().get(w[1]));
            case "reassign":
                return reassign(partition(w), Optional.of(new NewPartitionReassignment(
                    Arrays.stream(w[3].split(",")).map(Integer::valueOf).collect(Collectors.toList()))));
            case "cancel":
                return reassign(partition(w), Optional.empty());
            case "reassigning":
                return reassigning();
            case "elect":
                return elect(ElectionType.valueOf(w[3].toUpperCase()), partition(w));
            case "quorum":
                return quorum(admin.describeMetadataQuorum().quorumInfo().get());
            case "features":
                return String.valueOf(new TreeMap<>(admin.describeFeatures().featureMetadata().get().finalizedFeatures()));
            case "feature":
                admin.updateFeatures(Map.of(w[1], new FeatureUpdate(Short.parseShort(w[2]), FeatureUpdate.UpgradeType.UPGRADE)),
                    new UpdateFeaturesOptions().validateOnly(false)).all().get();
                return "done";
            case "unregister":
                admin.unregisterBroker(Integer.parseInt(w[1])).all().get();
                return "done";
            case "nodes":
                return nodes(admin.describeCluster(new DescribeClusterOptions().includeFencedBrokers(true)).nodes().get());
            default:
                return "failed: no such command";
        }
    }

    private static TopicPartition partition(String[] w) {
        return new TopicPartition(w[1], Integer.parseInt(w[2]));
    }

    private static String ids(Collection<Node> nodes) {
        return nodes == null ? "-" : nodes.stream().map(n -> String.valueOf(n.id())).collect(Collectors.joining(","));
    }

    private static String describe(TopicDescription topic) {
        List<String> out = new ArrayList<>();
        for (TopicPartitionInfo p : topic.partitions()) {
            out.add(p.partition() + " leader " + (p.leader() == null ? "-" : p.leader().id()) + " replicas " + ids(p.replicas())
                + " isr " + ids(p.isr()) + " elr " + ids(p.elr()));
        }
        return String.join("; ", out);
    }

    private String reassign(TopicPartition partition, Optional<NewPartitionReassignment> to) throws Exception {
        admin.alterPartitionReassignments(Map.of(partition, to)).all().get();
        return "done";
    }

    private String reassigning() throws Exception {
        List<String> out = new ArrayList<>();
        for (Map.Entry<TopicPartition, PartitionReassignment> e :
            admin.listPartitionReassignments().reassignments().get().entrySet()) {
            out.add(e.getKey() + " adding " + e.getValue().addingReplicas() + " removing " + e.getValue().removingReplicas());
        }
        out.sort(null);
        return String.join("; ", out);
    }

    private String elect(ElectionType type, TopicPartition partition) throws Exception {
        Map<TopicPartition, Optional<Throwable>> results = admin.electLeaders(type, Set.of(partition)).partitions().get();
        Optional<Throwable> result = results.get(partition);
        return result.map(t -> "failed: " + t.getClass().getSimpleName()).orElse("done");
    }

    private static String quorum(QuorumInfo q) {
        return "leader " + q.leaderId() + " voters " + replicas(q.voters()) + " observers " + replicas(q.observers())
            + " nodes " + q.nodes().keySet().stream().sorted().map(String::valueOf).collect(Collectors.joining(","));
    }

    private static String replicas(List<QuorumInfo.ReplicaState> states) {
        return states.stream().map(s -> String.valueOf(s.replicaId())).sorted().collect(Collectors.joining(","));
    }

    private static String nodes(Collection<Node> nodes) {
        return nodes.stream().sorted((a, b) -> Integer.compare(a.id(), b.id()))
            .map(n -> n.id() + (n.isFenced() ? " fenced" : " alive")).collect(Collectors.joining("; "));
    }
}
