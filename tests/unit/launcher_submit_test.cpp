// What Slurm is asked for a job.
#include <gtest/gtest.h>

#include "options.hpp"
#include "submit.hpp"

namespace paceline {
namespace {

using Words = std::vector<std::string>;

const Words cluster = {"normal* 4 64 2 16", "normal* 2 96 2 24", "big 8 128 2 64", "small 1 8 1 4"};

TEST(Partition, TheDefaultOneHasAStar) {
  EXPECT_EQ(sinfo_command(""), (Words{"sinfo", "--noheader", "--exact", "--format=%P %D %c %X %Y"}));
  EXPECT_EQ(sinfo_command("big,small").back(), "--partition=big,small");
  // Threads of a core are no cores: 2 sockets of 16 have 32, whatever their 64 CPUs.
  EXPECT_EQ(parse_partition(cluster, "").value(), (Partition{"normal", 6, 32}));
}

TEST(Partition, OneByName) {
  EXPECT_EQ(parse_partition({"big 8 128 2 64"}, "big").value(), (Partition{"big", 8, 128}));
  // Of several Slurm takes whichever is free first.
  EXPECT_EQ(parse_partition({"big 8 128 2 64", "small 1 8 1 4"}, "big,small").value(),
            (Partition{"big,small", 8, 4}));
  EXPECT_EQ(parse_partition({"odd 4+ 8+ 0 0"}, "odd").value(), (Partition{"odd", 4, 8}));
}

TEST(Partition, NoneIsAnError) {
  for (const Words& lines : {Words{}, Words{"big 8 128 2 64"}, Words{"normal* 0 64 2 16"},
                             Words{"normal* 4 0 0 0"}, Words{"sinfo: what?"}, Words{"normal* x 64 2 16"}})
    EXPECT_NE(parse_partition(lines, "").error().message.find("default partition"), std::string::npos);
  EXPECT_NE(parse_partition({}, "nosuch").error().message.find("no partition nosuch"), std::string::npos);
}

TEST(NodesFor, EachRankHasACoreWhereThereAreEnough) {
  const Partition partition{"p", 4, 4};
  EXPECT_EQ(nodes_for(1, 4, partition), (NodeRange{1, 1}));
  EXPECT_EQ(nodes_for(1, 5, partition), (NodeRange{1, 2}));
  EXPECT_EQ(nodes_for(5, 8, partition), (NodeRange{2, 2}));
  EXPECT_EQ(nodes_for(8, 16, partition), (NodeRange{2, 4}));
  EXPECT_EQ(nodes_for(1, 4096, partition), (NodeRange{1, 4}));
  EXPECT_EQ(nodes_for(100, 200, partition), (NodeRange{4, 4}));
  EXPECT_EQ(describe(NodeRange{2, 4}), "2 to 4 nodes");
  EXPECT_EQ(describe(NodeRange{3, 3}), "3 nodes");
  EXPECT_EQ(describe(NodeRange{1, 1}), "1 node");
}

TEST(SbatchOptions, AreFoundInEachWayOfWritingThem) {
  const SbatchOption nodes{"--nodes", 'N'};
  for (const Words& words : {Words{"--nodes=2"}, Words{"--nodes", "2"}, Words{"-N2"}, Words{"-N", "2"},
                             Words{"--nodes=9", "--time=1", "-N", "2"}})
    EXPECT_EQ(sbatch_value(words, nodes), "2");
  EXPECT_EQ(sbatch_value({"--nodelist=2", "-n2", "--nodes-x"}, nodes), std::nullopt);
  EXPECT_EQ(sbatch_value({"--exclusive", "--time=1"}, {"--exclusive", 0}), "");
  EXPECT_EQ(sbatch_value({"--exclusive=user"}, {"--exclusive", 0}), "user");
  EXPECT_EQ(sbatch_value({"-e", "x"}, {"--exclusive", 0}), std::nullopt);
  EXPECT_TRUE(says_nodes({"--time=1", "-n", "4"}));
  EXPECT_TRUE(says_nodes({"--nodelist=h1"}));
  EXPECT_FALSE(says_nodes({"--nice", "--partition=n"}));
}

TEST(SbatchCommand, PeoplesOptionsComeLast) {
  const Submission plain{"/bin/paceline", "/s/train.sbatch", "job.yaml", NodeRange{2, 4}, {}, {}};
  EXPECT_EQ(sbatch_command(plain), (Words{"sbatch", "--parsable", "--export=ALL,PACELINE=/bin/paceline",
                                          "--nodes=2-4", "--exclusive", "/s/train.sbatch", "job.yaml"}));
  Submission other = plain;
  other.nodes.reset();
  other.sbatch_options = {"--nodes", "4", "--oversubscribe", "--export=NONE"};
  other.train_options = {"--ranks", "8", "--set", "a=b c"};
  EXPECT_EQ(sbatch_command(other),
            (Words{"sbatch", "--parsable", "--nodes", "4", "--oversubscribe", "--export=NONE",
                   "/s/train.sbatch", "job.yaml", "--ranks", "8", "--set", "a=b c"}));
  Submission one = plain;
  one.nodes = NodeRange{1, 1};
  EXPECT_EQ(sbatch_command(one)[3], "--nodes=1");
}

TEST(ShellQuoted, OnlyWhatNeedsIt) {
  EXPECT_EQ(shell_quoted({"sbatch", "--nodes=2-4", "a b", "it's", "", "$HOME", "~/x"}),
            R"(sbatch --nodes=2-4 'a b' 'it'\''s' '' '$HOME' '~/x')");
}

TEST(Submitted, ItsNumberAndPlaces) {
  EXPECT_EQ(submitted_job({"812"}), "812");
  EXPECT_EQ(submitted_job({"hello", "812;cluster"}), "812");
  EXPECT_EQ(submitted_job({"sbatch: Job 812 to start at ..."}), "");
  EXPECT_EQ(describe_submitted("812", {}, "2 to 4 nodes of partition normal"),
            "job 812: 2 to 4 nodes of partition normal\n"
            "output paceline-812.log, run directory runs/slurm-812\n"
            "look at it with\n"
            "  paceline status runs/slurm-812\n"
            "  paceline logs runs/slurm-812 --follow\n"
            "end it with\n"
            "  scancel 812\n");
  const std::string moved = describe_submitted("812", {"-D", "/data/me", "--output=out-%j.txt"}, "");
  EXPECT_EQ(moved.substr(0, moved.find("look")),
            "job 812\noutput /data/me/out-812.txt, run directory /data/me/runs/slurm-812\n");
}

Result<Command> parse(Words words) {
  std::vector<const char*> arguments = {"paceline", "submit"};
  for (const std::string& word : words) arguments.push_back(word.c_str());
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST(SubmitOptions, WhatIsNotOursIsSbatchsInItsOrder) {
  const SubmitOptions submit =
      std::get<SubmitOptions>(parse({"job.yaml", "--slurm", "--nodes", "4", "-p", "train", "--dry-run",
                                     "--comment=a b", "--", "--ranks", "2", "--", "--slurm"})
                                  .value());
  EXPECT_EQ(submit.job_file, "job.yaml");
  EXPECT_TRUE(submit.slurm);
  EXPECT_TRUE(submit.dry_run);
  EXPECT_EQ(submit.sbatch_options, (Words{"--nodes", "4", "-p", "train", "--comment=a b"}));
  EXPECT_EQ(submit.train_options, (Words{"--ranks", "2", "--", "--slurm"}));
  EXPECT_FALSE(std::get<SubmitOptions>(parse({"job.yaml", "--", "--slurm"}).value()).slurm);
}

TEST(SubmitOptions, TheJobComesFirst) {
  EXPECT_EQ(std::get<SubmitOptions>(parse({"--slurm", "job.yaml"}).value()).job_file, "job.yaml");
  for (const Words& words : {Words{}, Words{"--slurm"}, Words{"--slurm", "--nodes", "4", "job.yaml"},
                             Words{"--", "job.yaml"}, Words{""}})
    EXPECT_NE(parse(words).error().message.find("JOB file first"), std::string::npos);
  EXPECT_TRUE(std::holds_alternative<ShowText>(parse({"--help"}).value()));
  EXPECT_TRUE(std::holds_alternative<SubmitOptions>(parse({"job.yaml", "--", "--help"}).value()));
}

}  // namespace
}  // namespace paceline
