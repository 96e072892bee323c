// Which words are written in a cycle: one a column of the activation memory. Who had to wait goes first the next time.
// So streams that run through neighbouring addresses come out of step, and then they meet no more.
module write_arbiter (
    input logic clk,
    input logic reset,

    input logic [engine_pkg::WordStreams-1:0] valid,
    input logic [engine_pkg::WordStreams-1:0][engine_pkg::Columns-1:0] columns,  // one bit, or none past the memory
    input logic [engine_pkg::WordStreams-1:0][bertile_pkg::CapacityActivationBanks-1:0] banks,  // the same
    input logic [bertile_pkg::CapacityActivationBanks-1:0] full,  // nothing can be written there

    output logic [engine_pkg::WordStreams-1:0] grant,  // always, for a word past the memory
    output logic [engine_pkg::Columns-1:0][engine_pkg::WordStreams-1:0] chosen  // for each column: one bit, or none
);

  localparam int unsigned Streams = engine_pkg::WordStreams;

  logic [Streams-1:0][Streams-1:0] precedes;  // [s][t]: s goes before t; always an order of all streams
  logic [Streams-1:0] lost, leaves;

  // A word that is chosen but finds its bank full keeps the column for itself: nobody overtakes it, and the choice does
  // not wait for `full`.
  always_comb begin
    for (int s = 0; s < Streams; s++) begin
      lost[s] = 1'b0;
      for (int t = 0; t < Streams; t++) begin
        if (valid[t] && precedes[t][s] && (columns[s] & columns[t]) != '0) lost[s] = 1'b1;
      end
      grant[s] = !lost[s] && (banks[s] & full) == '0;
      leaves[s] = valid[s] && grant[s];
      for (int c = 0; c < engine_pkg::Columns; c++) begin
        chosen[c][s] = valid[s] && columns[s][c];
        for (int t = 0; t < Streams; t++) begin
          if (valid[t] && columns[t][c] && precedes[t][s]) chosen[c][s] = 1'b0;
        end
      end
    end
  end

  // Whose word leaves goes behind all whose word does not.
  always_ff @(posedge clk) begin
    for (int s = 0; s < Streams; s++) begin
      for (int t = 0; t < Streams; t++) begin
        if (leaves[s] != leaves[t]) precedes[s][t] <= leaves[t];
        if (reset) precedes[s][t] <= s < t;
      end
    end
  end

endmodule
